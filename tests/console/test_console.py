"""The console as a person uses it, in a real browser."""

import csv
import re
from itertools import pairwise

import pytest
from conftest import DESKTOP, PHONE, PICTURES
from hostile_provider import ATTACK, LONG, MODEL, NAME, REJECTED
from playwright.sync_api import expect

from support.service_process import ROOT

SLOW = "sandbox/slow"  # five tokens a second
ENDLESS = "sandbox/long-100000"
STOPPED = "sandbox/long-99999"  # requested by one test only
NO_VALUE = "\u2013"
BRIEF = ROOT / "tests" / "unit" / "models" / "brief_models.tsv"


@pytest.fixture
def window(open_window, served):
    return open_window(served).filled()


def ids(window):
    return window.page.eval_on_selector_all("#list tr", "rows => rows.map(row => row.dataset.id)")


def column(window, label):
    return window.page.eval_on_selector_all(
        f'#list td[data-label="{label}"]', "cells => cells.map(cell => cell.textContent)"
    )


def sort(window, head):
    window.page.get_by_role("columnheader", name=head).get_by_role("button").click()


# The table of models


def test_the_table_has_every_model_of_the_brief(window):
    """All 50, retired ones included."""
    with BRIEF.open(encoding="utf-8", newline="") as table:
        known = {row["id"] for row in csv.DictReader(table, delimiter="\t")}
    listed = set(ids(window))

    assert 50 == len(known)
    assert set() == known - listed
    assert window.text("#count") == str(len(listed))


def test_a_row_shows_the_facts_of_a_model(window):
    """Context, precision, input and output prices, availability, state, and notes below its name."""
    row = window.part('#list tr[data-id="deepseek-ai/DeepSeek-V4-Pro-0813"]')

    assert ["DeepSeek", "1,048,576", "NVFP4", "1.32", "3.96", "serverless", "active"] == row.locator(
        "td:not(:first-child)"
    ).all_text_contents()
    expect(row.locator("td").first).to_contain_text("cached input $0.13")


def test_filters_narrow_the_table_and_show_the_number_of_matches(window):
    """By words of a name, maker, availability and state, also combined."""
    every = len(ids(window))
    window.part("#text").fill("llama turbo")
    found = ids(window)
    assert 0 < len(found) < every
    assert all("llama" in one.lower() and "turbo" in one.lower() for one in found)
    assert f"{len(found)} of {every}" == window.text("#count")

    window.part("#text").fill("")
    window.part("#organization").select_option("Qwen")
    assert {"Qwen"} == set(column(window, "Maker"))
    window.part("#state").select_option("retired")
    assert all("retired" in state for state in column(window, "State"))
    window.part("#organization").select_option("")
    window.part("#availability").select_option("dedicated")
    assert {"dedicated", "either"} >= set(column(window, "Use"))


def test_a_filter_without_matches_shows_a_message(window):
    """So that an empty table does not look like a page that is loading."""
    window.part("#text").fill("no such model anywhere")

    expect(window.part("#none")).to_be_visible()


@pytest.mark.parametrize("head", ["Context", "In, $/M", "Out, $/M"])
def test_sorting_by_a_number_goes_both_ways(window, head):
    """Unknown values come last in both directions."""
    for _ in range(2):
        sort(window, head)
        direction = window.page.get_by_role("columnheader", name=head).get_attribute("aria-sort")
        shown = column(window, head)
        known = [float(text.replace(",", "")) for text in shown if text != NO_VALUE]
        assert known == sorted(known, reverse=direction == "descending")
        assert {NO_VALUE} >= set(shown[len(known) :])
        assert len(known) > 50 or "$" in head


def test_sorting_by_name_ignores_case(window):
    """In ascending order."""
    sort(window, "Model")
    names = window.page.eval_on_selector_all(
        "#list b", "all => all.map(one => one.textContent.toLowerCase())"
    )

    assert names == sorted(names)


def test_clicking_a_model_selects_it_in_the_playground(window):
    """Its row is marked."""
    row = window.part('#list tr[data-id="moonshotai/Kimi-K3"]')
    row.get_by_role("button").click()

    expect(window.part("#model")).to_have_value("moonshotai/Kimi-K3")
    expect(row).to_have_attribute("aria-current", "true")


# The playground


WATCH = """window.grown = [];
new MutationObserver(() => window.grown.push([document.getElementById("answer").textContent, performance.now()]))
    .observe(document.getElementById("answer"), { childList: true, characterData: true, subtree: true })"""


def test_a_completion_is_streamed(window):
    """Its text grows as it arrives, five words a second, and is only ever appended to."""
    window.page.evaluate(WATCH)
    window.ask("say: one two three four five six seven eight nine ten", model=SLOW)
    window.ended("complete")
    grown = [(text, at_ms) for text, at_ms in window.page.evaluate("window.grown") if text]

    assert "one two three four five six seven eight nine ten" == grown[-1][0] == window.text("#answer")
    assert len({text for text, _ in grown}) > 3
    assert all(after.startswith(before) for (before, _), (after, _) in pairwise(grown))
    assert grown[-1][1] - grown[0][1] > 1000


def test_a_completion_shows_its_reasoning_times_tokens_and_cost(window):
    """The reasoning is apart from the text."""
    window.ask("say: Blue.")
    window.ended("complete")

    assert "Blue." == window.text("#answer")
    assert len(window.text("#thoughts")) > 10
    facts = dict(
        zip(window.part("dt").all_text_contents(), window.part("dd").all_text_contents(), strict=True)
    )
    assert {
        "First token",
        "Total time",
        "Tokens in",
        "Tokens out",
        "Speed",
        "Thinking",
        "Cost",
        "Finish",
    } == set(facts)
    assert re.fullmatch(r"\$0\.0\d+", facts["Cost"])
    assert "stop" == facts["Finish"]


def test_without_a_price_no_cost_is_shown(window):
    """An unknown cost is not 0."""
    window.ask("say: Hello.", model="sandbox/fast")
    window.ended("complete")

    assert "Cost" not in window.part("dt").all_text_contents()


def test_stopping_keeps_the_text_and_closes_the_request_to_the_provider(window):
    """The sandbox sees its client disconnect in the middle of the stream."""
    window.ask("Tell me everything.", model=STOPPED)
    expect(window.part("#answer")).not_to_be_empty()
    window.part("#stop").click()
    window.ended("stopped")

    assert "client_closed" == window.service.wait_until_ended(STOPPED)
    assert len(window.text("#answer")) > 0
    expect(window.part("#send")).to_be_enabled()


def test_the_form_sets_the_request(window):
    """System prompt, temperature and maximum of tokens."""
    window.part("#system").fill("Be brief.")
    window.part("#temperature").fill("0.25")
    window.part("#max-tokens").fill("4")
    with window.page.expect_request("**/v1/chat/completions") as caught:
        window.ask("say: one two three four five six seven")
    window.ended("complete")
    body = caught.value.post_data_json

    assert [("system", "Be brief."), ("user", "say: one two three four five six seven")] == [
        (message["role"], message["content"]) for message in body["messages"]
    ]
    assert (0.25, 4) == (body["temperature"], body["max_tokens"])
    assert "length" in window.part("dd").all_text_contents()


def test_an_error_shows_its_reason_and_when_to_retry(open_window, served):
    """Status, reason, message, hint and request id."""
    window = open_window(served, errors_expected=True).filled()
    window.ask("Hello!", model="sandbox/error-429")
    window.ended("failed")
    text = window.text("#fault")

    assert "429 · RATE_LIMITED" in text
    assert re.search(r"Try again in \d", text)
    assert "request " in text


def test_an_error_that_must_not_be_retried_says_so(open_window, served):
    """For example a key that the provider rejects."""
    window = open_window(served, errors_expected=True).filled()
    window.ask("Hello!", model="sandbox/error-401")
    window.ended("failed")

    assert "401 · SERVICE_KEY_REJECTED" in window.text("#fault")
    assert "Do not retry" in window.text("#fault")


def test_a_failed_stream_keeps_its_text(window):
    """The error is shown below the incomplete completion."""
    window.ask("Hello!", model="sandbox/cut-stream")
    window.ended("failed")

    assert "UPSTREAM_TRUNCATED" in window.text("#fault") or "UPSTREAM_RESET" in window.text("#fault")
    assert len(window.text("#answer")) > 0


# The live metrics


def test_the_live_metrics_follow_calls(open_window, served):
    """A running call is in flight; a finished one is counted by code and reason."""
    window = open_window(served, errors_expected=True).filled()
    expect(window.part("#link")).to_have_text("live")
    window.ask("Tell me everything.", model=ENDLESS)
    expect(window.part("#in-flight")).not_to_have_text("0")
    window.part("#stop").click()
    expect(window.part("#in-flight")).to_have_text("0")
    expect(window.part("#codes")).to_contain_text("499")
    expect(window.part("#reasons")).to_contain_text("CALLER_CANCELLED")

    window.ask("Hello!", model="sandbox/error-503")
    window.ended("failed")
    expect(window.part("#reasons")).to_contain_text("UPSTREAM_OVERLOADED")
    expect(window.part("#provider-rest")).to_contain_text("last UPSTREAM_OVERLOADED")

    before = window.text("#tokens-all")
    window.ask("say: Hello.")
    window.ended("complete")
    expect(window.part("#tokens-all")).not_to_have_text(before)
    expect(window.part("#first-token")).to_contain_text("ms")
    assert window.part("#calls-spark polyline").get_attribute("points").count(",") == 60


def test_the_live_metrics_of_a_worker_are_marked(open_window, window, served_by_workers):
    """Those of a single process are not."""
    expect(window.part("#queued")).to_have_text(re.compile(r"^\d+ queued \u00b7 up \d+ (s|min)$"))
    one = open_window(served_by_workers)
    expect(one.part("#queued")).to_have_text(
        re.compile(r"^\d+ queued \u00b7 up \d+ s \u00b7 this worker only$")
    )


def test_a_lost_connection_is_shown(open_window, served):
    """The metrics on the page are no longer live."""
    window = open_window(served, errors_expected=True).filled()
    expect(window.part("#link")).to_have_text("live")
    window.page.context.set_offline(True)

    expect(window.part("#link")).to_have_text("no connection")


# Keys


def test_the_console_needs_a_key_if_callers_bring_theirs(open_window, served_with_keys):
    """Without one it shows nothing. The key stays in the session storage of the tab."""
    window = open_window(served_with_keys, errors_expected=True)
    expect(window.part("#link")).to_have_text("needs a key")
    expect(window.part("#count")).to_contain_text("need a key")
    expect(window.part("#calls")).to_have_text(NO_VALUE)

    window.part("#key").fill("tok_mine_0123456789")
    window.part("#key").press("Enter")
    window.filled()
    expect(window.part("#link")).to_have_text("live")
    window.ask("say: Hello.")
    window.ended("complete")

    kept = "JSON.stringify([Object.values(sessionStorage), Object.values(localStorage), document.cookie])"
    assert '[["tok_mine_0123456789"],[],""]' == window.page.evaluate(kept)
    assert not any("tok_mine" in url for url in window.requested)


# Hostile texts


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_hostile_texts_are_shown_as_text(open_window, served_with_hostile_provider, size):
    """In the provider's list, completions and errors; nothing of them runs."""
    window = open_window(served_with_hostile_provider, size=size, errors_expected=True).filled()
    window.part("#state").select_option("active")
    row = window.part("#list tr").first
    assert (NAME, MODEL) == (row.locator("b").first.text_content(), row.locator(".pick span").text_content())
    row.get_by_role("button").click()
    window.part("#prompt").fill("Hello!")
    window.part("#send").click()
    window.ended("complete")
    assert ATTACK + LONG == window.text("#answer")
    assert ATTACK == window.text("#thoughts")
    assert MODEL == window.text("#served")
    assert 0 >= window.overflow()

    window.ask("Hello!", model="rejected")
    window.ended("failed")
    assert REJECTED in window.text("#fault")
    assert None is window.page.evaluate("window.broken ?? null")
    assert 0 == window.part("#broken").count() == window.part("img").count()
    assert 1 == window.part("script").count()


# The page itself


def test_the_console_can_be_used_by_keyboard(window):
    """Enter sorts by a column, Ctrl+Enter sends, and the focus moves to the stop button."""
    head = window.page.get_by_role("columnheader", name="Context")
    head.get_by_role("button").focus()
    window.page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")

    window.part("#model").fill(ENDLESS)
    window.part("#prompt").fill("Tell me everything.")
    window.part("#prompt").press("Control+Enter")
    expect(window.part("#stop")).to_be_focused()
    window.page.keyboard.press("Enter")
    window.ended("stopped")


def test_a_field_being_edited_keeps_the_focus(window):
    """The end of a completion does not move it."""
    window.ask("say: one two three four five six seven eight")
    window.part("#prompt").focus()
    window.ended("complete")

    expect(window.part("#send")).to_be_enabled()
    expect(window.part("#prompt")).to_be_focused()


def test_every_control_has_an_accessible_name(window):
    """For screen readers."""
    unnamed = """Array.from(document.querySelectorAll("input, select, textarea, button, [role=region], meter"))
        .filter(control => !(control.labels?.length || control.getAttribute("aria-label")
            || control.getAttribute("aria-labelledby") || control.textContent.trim()))
        .map(control => control.outerHTML)"""

    assert [] == window.page.evaluate(unnamed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_the_page_fits_its_window(open_window, served, name, size, scheme):
    """In both colour schemes, with a completion shown. Also takes the screenshots."""
    window = open_window(served, size=size, scheme=scheme).filled()
    assert 0 >= window.overflow()
    window.ask("Why is the sky blue?")
    window.ended("complete")
    expect(window.part("#first-token")).to_contain_text("ms")
    assert 0 >= window.overflow()

    window.page.evaluate("window.scrollTo(0, 0)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = PICTURES / f"{name}-{scheme}.png"
    window.page.screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    window.part("#playground").scroll_into_view_if_needed()
    window.page.screenshot(path=PICTURES / f"{name}-{scheme}-playground.png")
