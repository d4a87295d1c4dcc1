"""The rules for all other fields: ranges, words, and the members of `extra_body_json`."""

import sys
from collections.abc import Mapping
from typing import Final, Literal

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.json_texts import JsonTexts
from togetherchat_server.calls.validation.texts import (
    check_count,
    check_length,
    is_model_id,
    is_word,
    model_id_rule,
)
from togetherchat_server.calls.validation.violations import Violations

_Number = Literal[
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "logprobs",
]

_INT32_MAX: Final = 2**31 - 1
INT64_MIN: Final = -(2**63)
_SMALLEST: Final = 5e-324
_LARGEST: Final = sys.float_info.max

RANGES: Final[Mapping[_Number, tuple[float, float, str]]] = {
    "max_tokens": (1, _INT32_MAX, "must be 1 or above"),
    "temperature": (0, 2, "must be 0 to 2"),
    "top_p": (0, 1, "must be 0 to 1"),
    "top_k": (-1, _INT32_MAX, "must be 1 or above, or 0 or -1 for all"),
    "min_p": (0, 1, "must be 0 to 1"),
    "repetition_penalty": (_SMALLEST, _LARGEST, "must be a finite number above 0"),
    "presence_penalty": (-2, 2, "must be -2 to 2"),
    "frequency_penalty": (-2, 2, "must be -2 to 2"),
    "n": (1, 128, "must be 1 to 128"),
    "logprobs": (0, 20, "must be 0 to 20"),
}
"""Least, most, and the rule in words. NaN is in no range, since it compares with nothing."""

COMPLIANCES: Final = frozenset({"", "hipaa"})
CONTEXT_LENGTH_EXCEEDED_BEHAVIORS: Final = frozenset(chat.ContextLengthExceededBehavior.values())

LOGIT_BIAS_MAX: Final = 100
TOKEN_ID_DIGITS_MAX: Final = 10

COVERED: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("model",),
    "messages": ("messages",),
    "max_tokens": ("max_tokens",),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repetition_penalty": ("repetition_penalty",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "stop": ("stop",),
    "n": ("n",),
    "seed": ("seed",),
    "logprobs": ("logprobs",),
    "echo": ("echo",),
    "logit_bias": ("logit_bias",),
    "tools": ("tools",),
    "tool_choice": ("tool_choice",),
    "response_format": ("response_format",),
    "reasoning_effort": ("reasoning_effort",),
    "reasoning_enabled": ("reasoning",),
    "chat_template_kwargs_json": ("chat_template_kwargs",),
    "safety_model": ("safety_model",),
    "context_length_exceeded_behavior": ("context_length_exceeded_behavior",),
    "compliance": ("compliance",),
    "prompt_cache_key": ("prompt_cache_key",),
    "parallel_tool_calls": ("parallel_tool_calls",),
    "user": ("user",),
    "fallback_models": (),
    "extra_body_json": (),
}
"""Field of `CompleteRequest` -> names in Together's request that it covers. Total over the fields."""

OWN: Final = frozenset({"stream", "stream_options"})
"""Names in Together's request that this service always sets."""

RESERVED: Final = OWN.union(*COVERED.values())


def check_options(request: service.CompleteRequest, limits: RequestLimits, violations: Violations) -> None:
    if not is_model_id(request.model, limits):
        violations.add("model", model_id_rule(limits))
    _check_numbers(request, violations)
    if request.stop:
        _check_stop(request, limits, violations)
    if request.logit_bias:
        _check_logit_bias(request, limits, violations)
    _check_words(request, limits, violations)
    if request.fallback_models:
        _check_fallbacks(request, limits, violations)


def check_extra_body(request: service.CompleteRequest, json_texts: JsonTexts, violations: Violations) -> None:
    """Check the two JSON texts that become part of the provider's request."""
    if request.chat_template_kwargs_json:
        json_texts.check("chat_template_kwargs_json", request.chat_template_kwargs_json)
    if request.extra_body_json:
        extra = json_texts.check("extra_body_json", request.extra_body_json)
        for name in sorted(RESERVED.intersection(extra or ())):
            if name == "seed":
                _check_extra_seed(request, (extra or {})[name], violations)
            else:
                violations.add(
                    "extra_body_json", f"must not contain {name!r}, which this service sets itself"
                )


def _check_extra_seed(request: service.CompleteRequest, seed: object, violations: Violations) -> None:
    """Allow a negative seed, which the unsigned field cannot have; never two seeds."""
    if request.HasField("seed"):
        violations.add("extra_body_json", "must not contain 'seed' beside the field seed")
    elif type(seed) is not int or not INT64_MIN <= seed < 0:
        violations.add(
            "extra_body_json", "may contain 'seed' only as a negative integer; use the field seed otherwise"
        )


def _check_numbers(request: service.CompleteRequest, violations: Violations) -> None:
    for name, (least, most, rule) in RANGES.items():
        if request.HasField(name):
            value: float = getattr(request, name)
            if not least <= value <= most:
                violations.add(name, rule)


def _check_stop(request: service.CompleteRequest, limits: RequestLimits, violations: Violations) -> None:
    if not check_count("stop", request.stop, limits.stop_max, violations):
        return
    for index, text in enumerate(request.stop):
        check_length(f"stop[{index}]", text, limits.stop_characters_max, violations)


def _check_logit_bias(
    request: service.CompleteRequest, limits: RequestLimits, violations: Violations
) -> None:
    if len(request.logit_bias) > limits.logit_bias_max:
        violations.add("logit_bias", f"must have at most {limits.logit_bias_max} entries")
        return
    for token_id, bias in request.logit_bias.items():
        if not _is_token_id(token_id):
            violations.add("logit_bias", "must have token ids in decimal digits as keys")
        elif not -LOGIT_BIAS_MAX <= bias <= LOGIT_BIAS_MAX:
            violations.add(f"logit_bias[{token_id}]", "must be -100 to 100")


def _is_token_id(text: str) -> bool:
    return len(text) <= TOKEN_ID_DIGITS_MAX and text.isascii() and text.isdecimal()


def _check_words(request: service.CompleteRequest, limits: RequestLimits, violations: Violations) -> None:
    if request.reasoning_effort and not is_word(request.reasoning_effort, limits):
        violations.add("reasoning_effort", "must be a word such as low, medium or high")
    if request.safety_model and not is_model_id(request.safety_model, limits):
        violations.add("safety_model", model_id_rule(limits))
    behavior = request.context_length_exceeded_behavior
    if behavior not in CONTEXT_LENGTH_EXCEEDED_BEHAVIORS:
        violations.add("context_length_exceeded_behavior", f"{behavior:d} is not a known value")
    if request.compliance not in COMPLIANCES:
        violations.add("compliance", "must be empty or hipaa")
    check_length("prompt_cache_key", request.prompt_cache_key, limits.id_characters_max, violations)
    check_length("user", request.user, limits.user_characters_max, violations)


def _check_fallbacks(request: service.CompleteRequest, limits: RequestLimits, violations: Violations) -> None:
    if not check_count("fallback_models", request.fallback_models, limits.fallback_models_max, violations):
        return
    for index, model in enumerate(request.fallback_models):
        if not is_model_id(model, limits):
            violations.add(f"fallback_models[{index}]", model_id_rule(limits))
