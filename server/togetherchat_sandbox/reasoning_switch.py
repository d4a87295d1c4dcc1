"""Which models obey `reasoning: {"enabled": false}`. Source: Together's guide to reasoning, 2026."""

ALWAYS_REASONING = ("gpt-oss",)
"""Parts of the ids of models whose reasoning cannot be switched off."""


def can_switch_reasoning_off(model: str) -> bool:
    name = model.lower()
    return not any(part in name for part in ALWAYS_REASONING)
