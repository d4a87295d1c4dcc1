"""Validates a request against the contract, and reports all its violations at once.

Owns the rules written beside the fields of `CompleteRequest`. Knows nothing of models and their
capabilities: the provider judges those.

Validation runs before every call, so the path of a valid request is short: no regular expression
reads a long text, nothing is copied, and a field path is only built for a violation. A request made
to be slow (a million empty parts, a million brackets) exceeds a bound before it is walked.
"""

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.json_texts import JsonTexts
from togetherchat_server.calls.validation.messages import check_messages
from togetherchat_server.calls.validation.options import check_extra_body, check_options
from togetherchat_server.calls.validation.tools import check_response_format, check_tool_choice, check_tools
from togetherchat_server.calls.validation.violations import Violations
from togetherchat_server.domain.reasons import Reason, ServiceError

__all__ = ["RequestLimits", "validate"]


def validate(
    request: service.CompleteRequest, limits: RequestLimits, *, request_bytes: int | None = None
) -> None:
    """Return if `request` may go to the provider.

    `request_bytes` is its size if the frontend knows it. Otherwise protobuf computes it by serialising
    the whole request again, which takes 5 us for 40 KB and 0.5 ms for 400 KB.

    Raises:
        ServiceError: REQUEST_TOO_LARGE above `limits.max_request_bytes`; otherwise INVALID_REQUEST
            with all violations, at most `limits.violations_max`. No description repeats a text of
            the caller.
    """
    if (request.ByteSize() if request_bytes is None else request_bytes) > limits.max_request_bytes:
        raise ServiceError(
            Reason.REQUEST_TOO_LARGE, f"the request is larger than {limits.max_request_bytes} bytes"
        )
    violations = Violations(limits.violations_max)
    json_texts = JsonTexts(limits, violations)
    check_options(request, limits, violations)
    check_messages(request.messages, limits, violations)
    check_tools(request.tools, limits, violations, json_texts)
    check_tool_choice(request, violations)
    check_response_format(request, limits, violations, json_texts)
    check_extra_body(request, json_texts, violations)
    violations.raise_if_any()
