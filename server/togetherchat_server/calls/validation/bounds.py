"""The bounds of a request: those that the contract's comments state, and those that protect this process."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """The bounds. Characters are Unicode code points, which cost nothing to count."""

    max_request_bytes: int = 32 * 2**20
    violations_max: int = 32
    elements_max: int = 131_072
    """Values, objects and lists of a large request, of any kind; counted before it is parsed."""

    messages_max: int = 4096
    parts_and_tool_calls_max: int = 16_384
    """Of all messages together. The worst case, all images, takes 50 ms to validate."""
    tools_max: int = 1024
    stop_max: int = 1024
    fallback_models_max: int = 3
    logit_bias_max: int = 4096

    model_characters_max: int = 256
    word_characters_max: int = 64
    """For values that are one word, such as `reasoning_effort`."""
    name_characters_max: int = 256
    """For the name of a participant."""
    id_characters_max: int = 1024
    """For keys such as `prompt_cache_key`."""
    tool_call_characters_max: int = 16_384
    """For the id and the name of a past tool call, which a provider or a model wrote. Some ids carry a
    signature of several kilobytes."""
    user_characters_max: int = 256
    stop_characters_max: int = 1024
    url_characters_max: int = 8192
    """For http and https URLs; a data URL is bounded only by the size of the request."""
    description_characters_max: int = 65_536
    """For descriptions, and for the regular expression that a completion must match."""

    json_characters_max: int = 1_048_576
    """For all JSON texts of a request together, without the arguments of past tool calls."""
    json_containers_max: int = 32_768
    """Opening brackets in them. Parsing a megabyte of `[],` took 150 ms, of common JSON 10 ms."""
    json_depth_max: int = 128


LIMITS: Final = RequestLimits()
"""The default bounds."""
