"""The console in a headless Chromium, with a service started for the tests.

These tests run in an environment that has a browser driver and not the service (`make
test-console`). TOGETHERCHAT_BROWSER is the path of a Chromium; screenshots go to PICTURES.
"""

import json
import os
from pathlib import Path

import pytest
from hostile_provider import HostileProvider
from playwright.sync_api import expect, sync_playwright
from seeded_usage import calls_of_many_tenants, serving_usage, varied_calls
from usage_window import settled

from support.service_process import ROOT, serving

PICTURES = Path(os.environ.get("PICTURES") or ROOT / "build" / "console")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
TIMEOUT_MS = 30_000.0
LOAD_FAILED = "Failed to load resource"
"""Chromium writes this into a page's console for every error response."""

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["TOGETHERCHAT_BROWSER"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served():
    """A service with the sandbox, slow enough for a test to observe, without retries."""
    flags = ("--console", "--max-retries", "0", "--sandbox-tokens-per-second", "40")
    with serving(*flags) as service:
        yield service


@pytest.fixture
def served_by_workers():
    """A service with two workers, each with metrics of its own."""
    with serving("--console", "--workers", "2") as service:
        yield service


@pytest.fixture(scope="session")
def served_with_keys():
    """A service whose callers bring their own keys."""
    with serving("--console", "--upstream-credentials", "caller") as service:
        yield service


@pytest.fixture(scope="session")
def served_with_hostile_provider():
    """A service with a provider whose every text tries to break out of the page."""
    with (
        HostileProvider() as provider,
        serving("--console", environment={"TOGETHER_BASE_URL": provider.base_url}) as service,
    ):
        yield service


class Window:
    """A page of the console, the URLs that it requested, and its console messages."""

    def __init__(self, context, service, path):
        self.address = service.base_url.removesuffix("/v1") + "/"
        self.service = service
        self.requested = []
        self.messages = []
        self.page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(self.address + path)

    def part(self, selector):
        return self.page.locator(selector)

    def filled(self):
        """Wait for the table of models."""
        expect(self.part("#list tr").first).to_be_visible()
        return self

    def ask(self, text, *, model="openai/gpt-oss-120b"):
        self.part("#model").fill(model)
        self.part("#prompt").fill(text)
        self.part("#send").click()

    def ended(self, word):
        """Wait until the badge of the playground contains this word."""
        expect(self.part("#progress")).to_contain_text(word)

    def text(self, selector):
        return self.part(selector).text_content()

    def overflow(self):
        """Return by how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def foreign_requests(self):
        """Return the requested URLs of other origins."""
        return [
            url
            for url in self.requested
            if not url.startswith((self.address, "data:", f"blob:{self.address}"))
        ]


@pytest.fixture
def open_window(browser):
    """Open pages; afterwards check that none requested another origin or wrote to its console."""
    contexts, windows = [], []

    def open_page(service, *, path="", key="", size=DESKTOP, scheme="light", errors_expected=False):
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        if key:  # as if it had been entered in this tab before
            context.add_init_script(f"sessionStorage.setItem('togetherchat-key', {json.dumps(key)})")
        window = Window(context, service, path)
        windows.append((window, errors_expected))
        return window

    yield open_page
    unexpected = [
        message
        for window, errors_expected in windows
        for message in window.messages
        if not (errors_expected and LOAD_FAILED in message)
    ]
    foreign = [url for window, _ in windows for url in window.foreign_requests()]
    for context in contexts:
        context.close()
    assert [] == unexpected
    assert [] == foreign


@pytest.fixture(scope="session")
def usage(tmp_path_factory):
    with serving_usage(tmp_path_factory.mktemp("usage"), varied_calls()) as service:
        yield service


@pytest.fixture(scope="session")
def usage_of_many(tmp_path_factory):
    with serving_usage(tmp_path_factory.mktemp("many"), calls_of_many_tenants()) as service:
        yield service


@pytest.fixture
def open_usage(open_window):
    """Open the page with a key, and wait for its report."""

    def open_report(service, *, key="admin", choice="", **options):
        path = f"usage#{choice}" if choice else "usage"
        window = open_window(service, path=path, key=service.keys[key], **options)
        return settled(window)

    return open_report
