"""The bounds of a request that the contract's comments state, and those that guard this process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Bounds with names. Characters are Unicode code points, which cost nothing to count."""

    max_request_bytes: int = 32 * 2**20
    violations_max: int = 32

    messages_max: int = 4096
    parts_per_message_max: int = 256
    tool_calls_per_message_max: int = 128
    pieces_max: int = 16_384
    """Parts and tool calls of all messages together: at worst, all pictures, 50 ms of checking."""
    tools_max: int = 128
    stop_max: int = 16
    fallback_models_max: int = 3
    logit_bias_max: int = 4096

    model_characters_max: int = 256
    word_characters_max: int = 64
    """Of values that are one word, such as `reasoning_effort`."""
    name_characters_max: int = 256
    """Of a participant's or a called function's name."""
    id_characters_max: int = 1024
    """Of ids that a provider made, and of keys such as `prompt_cache_key`."""
    stop_characters_max: int = 1024
    url_characters_max: int = 8192
    """Of addresses; a data URL is bounded by the request alone."""
    description_characters_max: int = 65_536
    """Of descriptions, and of the regular expression that an answer must match."""

    json_characters_max: int = 1_048_576
    """Of all JSON texts of a request together, arguments of past tool calls aside."""
    json_containers_max: int = 32_768
    """Opening brackets in them. Reading a megabyte of `[],` took 150 ms, of common JSON 10."""
    json_depth_max: int = 32
