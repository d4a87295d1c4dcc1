"""The console in a headless Chromium, before a service of its own.

These tests run in an environment that has a browser's driver and not the service (`make
test-console`). TOGETHERCHAT_BROWSER is a Chromium; PICTURES is where screenshots go.
"""

import os
from pathlib import Path

import pytest
from hostile_provider import HostileProvider
from playwright.sync_api import expect, sync_playwright

from support.service_process import ROOT, serving

PICTURES = Path(os.environ.get("PICTURES") or ROOT / "build" / "console")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 30_000.0
REFUSED = "Failed to load resource"
"""What Chromium writes into a page's console for every answer that is an error."""

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["TOGETHERCHAT_BROWSER"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served():
    """In front of the simulator, at a pace that a test can see; it tries nothing again by itself."""
    words = ("--console", "--max-retries", "0", "--sandbox-tokens-per-second", "40")
    with serving(*words) as service:
        yield service


@pytest.fixture
def served_by_workers():
    """Each with figures of its own."""
    with serving("--console", "--workers", "2") as service:
        yield service


@pytest.fixture(scope="session")
def served_with_keys():
    """Callers bring their keys."""
    with serving("--console", "--upstream-credentials", "caller") as service:
        yield service


@pytest.fixture(scope="session")
def served_by_a_foe():
    """In front of a provider whose every text is meant to break out of the page."""
    with (
        HostileProvider() as provider,
        serving("--console", environment={"TOGETHER_BASE_URL": provider.base_url}) as service,
    ):
        yield service


class Window:
    """A page of the console, what it asked for, and what it complained of."""

    def __init__(self, context, service):
        self.address = service.base_url.removesuffix("/v1") + "/"
        self.service = service
        self.asked = []
        self.complaints = []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(self.address)

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
        """Wait until the answer has come to this end."""
        expect(self.part("#progress")).to_contain_text(word)

    def text(self, selector):
        return self.part(selector).text_content()

    def wide(self):
        """How many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def foreign(self):
        """What was asked of anybody else."""
        return [url for url in self.asked if not url.startswith((self.address, "data:"))]


@pytest.fixture
def open_window(browser):
    """Opens pages, and holds every one of them to what must be true of all."""
    contexts, windows = [], []

    def opened(service, *, size=DESKTOP, scheme="light", refusals=False):
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        window = Window(context, service)
        windows.append((window, refusals))
        return window

    yield opened
    left = [
        complaint
        for window, refusals in windows
        for complaint in window.complaints
        if not (refusals and REFUSED in complaint)
    ]
    foreign = [url for window, _ in windows for url in window.foreign()]
    for context in contexts:
        context.close()
    assert [] == left
    assert [] == foreign
