"""The memory of models that are served only as a stream."""

from togetherchat_server.domain.reasons import ProviderErrorInfo, Reason, ServiceError
from togetherchat_server.providers.together.streaming_only import StreamingOnlyModels, requires_stream


def test_the_memory_is_bounded():
    """The oldest of the added models is forgotten; what the catalog lists is not."""
    models = StreamingOnlyModels(lambda model: model == "listed", models_max=2)
    for name in ("one", "two", "one", "three"):
        models.add(name)

    assert [True, True, False, True] == [name in models for name in ("listed", "one", "two", "three")]


def test_only_the_code_of_the_provider_requires_a_stream():
    """An error without one, or with another, does not."""
    plain = ServiceError(Reason.UPSTREAM_INVALID_REQUEST, "streaming_required")
    other = ServiceError(Reason.UPSTREAM_INVALID_REQUEST, "x", upstream=ProviderErrorInfo(error_code="other"))
    required = ServiceError(
        Reason.UPSTREAM_INVALID_REQUEST, "x", upstream=ProviderErrorInfo(error_code="streaming_required")
    )

    assert [False, False, True] == [requires_stream(error) for error in (plain, other, required)]
