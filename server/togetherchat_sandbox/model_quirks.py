"""The models that act what is particular to Together: facts about single models, and no faults.

Sources: public reports of 2026 about `streaming_required`, `dedicated_endpoint_not_running`,
`?serverless=true` and `prompt_cache_key`, and Together's guides about reasoning.
"""

from togetherchat_sandbox import fault_injection
from togetherchat_sandbox.api_errors import ApiError
from togetherchat_sandbox.behaviour import Behaviour, SandboxModel

STREAMING_REQUIRED = ApiError(
    status=400,
    message="This model only supports streaming. Set `stream` to true.",
    code="streaming_required",
)
NOT_SERVERLESS = ApiError(
    status=400,
    message="Unable to access non-serverless model {model}. Please visit https://api.together.ai/models to"
    " create and start a new dedicated endpoint for the model.",
    code="model_not_available",
)

MODELS = (
    SandboxModel(
        name="streaming-only",
        description="400 `streaming_required`, unless a stream is requested.",
        behaviour=Behaviour(unary=fault_injection.rejection(STREAMING_REQUIRED)),
    ),
    SandboxModel(
        name="not-serverless",
        description="400 `model_not_available`: in the list of models, but not with `?serverless=true`.",
        behaviour=Behaviour(error=NOT_SERVERLESS),
    ),
    SandboxModel(
        name="prompt-cache",
        description="All but the last message is cached if an earlier request had the same"
        " `prompt_cache_key`, or without one the same `user`; else nothing is.",
        behaviour=Behaviour(cached_by_key=True),
    ),
)
DEDICATED = frozenset({"not-serverless"})
"""The names that `?serverless=true` leaves out."""
