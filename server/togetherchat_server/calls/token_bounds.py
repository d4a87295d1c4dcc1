"""How many tokens a request may use: estimates for rates, bounds for budgets. Pure.

Nobody but the provider knows the tokenizer of a model. What is certain: a token of text is at least one
byte of UTF-8, so that bytes bound tokens. What is usual: about four bytes.
"""

from dataclasses import dataclass
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service

BYTES_PER_TOKEN: Final = 4
TEMPLATE_TOKENS: Final = 512
"""Most tokens that a chat template adds to any request: a system prompt of its own, the date, tool rules."""
TEMPLATE_TOKENS_PER_MESSAGE: Final = 16
IMAGE_TOKENS: Final = 1_600
"""A usual image of the vision models that Together serves."""
IMAGE_TOKENS_MAX: Final = 16_384
"""The largest image of the Qwen VL models: 28 by 28 pixels a token."""
AUDIO_TOKENS: Final = 1_500
"""A minute of audio at 25 tokens a second."""
AUDIO_TOKENS_MAX: Final = 60_000
"""40 minutes of audio."""
VIDEO_TOKENS: Final = 16_384
VIDEO_TOKENS_MAX: Final = 131_072


@dataclass(frozen=True, slots=True)
class InputSize:
    """The size of a request's input."""

    text_bytes: int
    """UTF-8 bytes of all text, tools and names included, and some of the encoding."""
    messages: int
    media_tokens: int = 0
    """Usual tokens of its images, recordings and videos."""
    media_tokens_max: int = 0

    def usual_tokens(self, bytes_per_token: float = BYTES_PER_TOKEN) -> int:
        return round(self.text_bytes / bytes_per_token) + self.media_tokens

    def most_tokens(self, context_length: int) -> int:
        """Return a bound. `context_length` is that of the model, 0 if unknown: more is not accepted."""
        most = (
            self.text_bytes
            + self.media_tokens_max
            + TEMPLATE_TOKENS
            + TEMPLATE_TOKENS_PER_MESSAGE * self.messages
        )
        return min(most, context_length) if context_length else most


def input_size(request: service.CompleteRequest) -> InputSize:
    """Measure a request. The bytes of media count as media, not as text."""
    usual = most = media_bytes = 0
    for message in request.messages:
        for part in message.content:
            kind = part.WhichOneof("part")
            if kind != "text":
                tokens, tokens_max = _media_tokens(part, kind)
                usual += tokens
                most += tokens_max
                media_bytes += part.ByteSize()
    return InputSize(
        text_bytes=request.ByteSize() - media_bytes,
        messages=len(request.messages),
        media_tokens=usual,
        media_tokens_max=most,
    )


def choices(request: service.CompleteRequest) -> int:
    return request.n if request.HasField("n") else 1


def _media_tokens(part: chat.ContentPart, kind: str | None) -> tuple[int, int]:
    match kind:
        case "image":
            return IMAGE_TOKENS, IMAGE_TOKENS_MAX
        case "video_url":
            return VIDEO_TOKENS, VIDEO_TOKENS_MAX
        case "audio_url" | "audio":
            return AUDIO_TOKENS, AUDIO_TOKENS_MAX
        case _:  # a part of a newer contract: its bytes are counted as text
            return part.ByteSize() // BYTES_PER_TOKEN, part.ByteSize()
