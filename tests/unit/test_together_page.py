"""docs/together.md: what it lists is what the code has."""

import re
from pathlib import Path

from togetherchat_server.config import Settings
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.providers.together import debug_headers, lost_text, reasoning_effort, streaming_only
from togetherchat_server.telemetry.metrics import definitions

PAGE = (Path(__file__).parents[2] / "docs" / "together.md").read_text(encoding="utf-8")


def words_in(sentence):
    """Return the words in backticks of the sentence that begins so."""
    return re.findall("`([^`]+)`", PAGE.split(sentence)[1].split(". ")[0])


def test_the_efforts_are_those_of_the_code():
    """From weak to strong."""
    assert list(reasoning_effort.WORDS) == words_in("The words are, from weak to strong")


def test_the_debug_headers_are_those_of_the_code():
    """Every header that is passed on is named."""
    assert set(debug_headers.NAMES) == set(words_in("headers about how it served the call:"))


def test_the_delay_of_a_stopped_endpoint_is_that_of_the_table():
    """In RetryInfo and over HTTP."""
    delay_s = Reason.UPSTREAM_ENDPOINT_NOT_RUNNING.row.passes_after_s
    assert f"{delay_s:g} s in RetryInfo" in PAGE
    assert f"`retry-after: {delay_s:g}`" in PAGE


def test_the_names_are_those_of_the_code():
    """The code of the provider, the feature, the metric, the warning and the settings."""
    for name in (
        streaming_only.CODE,
        reasoning_effort.TOGGLE,
        definitions.PROMPT_CACHE_TOKENS,
    ):
        assert f"`{name}`" in PAGE
    assert '"reasoning used up max_tokens"' in PAGE
    assert "reasoning used up max_tokens" in lost_text.warnings_of([0])[0]
    for setting in ("adapt_reasoning_effort", "prompt_cache_affinity", "forward_user"):
        assert setting in Settings.model_fields
