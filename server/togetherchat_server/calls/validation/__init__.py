"""Whether a request is one that the contract allows: everything wrong with it, said at once.

Owns the rules written beside the fields of `CompleteRequest`. Knows nothing of models and
what they can do: that is the provider's to judge.

It runs before every call, so the path of a good request is short: no regular expression sees
a long text, nothing is copied, and places in the request are spelt only where something is
wrong. A request made to be slow (a million empty parts, a million brackets) meets a bound
before it is walked.
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

    `request_bytes` is its size where the front knows it: protobuf finds it out by serialising
    the whole request once more, which takes 5 us for 40 KB and 0.5 ms for 400 KB.

    Raises:
        ServiceError: REQUEST_TOO_LARGE above `limits.max_request_bytes`; INVALID_REQUEST with
            all violations otherwise, `limits.violations_max` of them at most. No description
            repeats a text of the caller's.
    """
    if (request.ByteSize() if request_bytes is None else request_bytes) > limits.max_request_bytes:
        raise ServiceError(
            Reason.REQUEST_TOO_LARGE, f"the request is larger than {limits.max_request_bytes} bytes"
        )
    findings = Violations(limits.violations_max)
    json_texts = JsonTexts(limits, findings)
    check_options(request, limits, findings)
    check_messages(request.messages, limits, findings)
    check_tools(request.tools, limits, findings, json_texts)
    check_tool_choice(request, findings)
    check_response_format(request, limits, findings, json_texts)
    check_extra_body(request, json_texts, findings)
    findings.raise_if_any()
