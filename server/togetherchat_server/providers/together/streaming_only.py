"""The models that the provider serves only as a stream.

A unary request for such a model fails with the code `streaming_required` (public reports of 2026). That is
not a failure of the call: the request is sent again as a stream and accumulated, and the model is remembered.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

from togetherchat_server.domain.reasons import ServiceError

CODE: Final = "streaming_required"
MODELS_MAX: Final = 256
INCOMPLETE_WARNING: Final = (
    "The provider serves this model only as a stream, which has no alternatives of log probabilities and no "
    "echoed prompt."
)


@final
class StreamingOnlyModels:
    """The models that `listed` names, and the most recent `models_max` ones that were added.

    Only the provider's own answers add a model. An entry never expires: a stream is right for every model.
    """

    def __init__(
        self, listed: Callable[[str], bool] = lambda _: False, *, models_max: int = MODELS_MAX
    ) -> None:
        self._listed = listed
        self._models_max = models_max
        self._added: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, model: str) -> bool:
        return model in self._added or self._listed(model)

    def add(self, model: str) -> None:
        self._added[model] = None
        self._added.move_to_end(model)
        if len(self._added) > self._models_max:
            self._added.popitem(last=False)


def requires_stream(error: ServiceError) -> bool:
    """Return whether the provider rejected a request only because it was not for a stream."""
    upstream = error.upstream
    return upstream is not None and CODE in {upstream.error_code, upstream.error_type}
