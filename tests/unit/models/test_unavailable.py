"""Models that the provider rejected: for which keys they are kept, and how long."""

from togetherchat_server.models.unavailable import UnavailableModels


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_a_model_is_unavailable_for_one_key():
    """Another key may have access to it."""
    unavailable = UnavailableModels(clock=Clock())
    unavailable.add("first", "a/b")
    assert ({"a/b"}, set()) == (unavailable.of("first"), unavailable.of("second"))


def test_an_entry_expires():
    """Providers restore models. Each rejection restarts the time."""
    clock = Clock()
    unavailable = UnavailableModels(clock=clock, ttl_s=10.0)
    unavailable.add("key", "early")
    unavailable.add("key", "again")
    clock.now_s += 9.0
    unavailable.add("key", "again")
    assert {"early", "again"} == unavailable.of("key")
    clock.now_s += 1.0
    assert {"again"} == unavailable.of("key")
    clock.now_s += 9.0
    assert set() == unavailable.of("key")


def test_a_served_call_removes_its_model():
    """Other entries are kept, and a model that was never rejected changes nothing."""
    unavailable = UnavailableModels(clock=Clock())
    unavailable.add("key", "a")
    unavailable.add("key", "b")
    unavailable.discard("key", "a")
    unavailable.discard("key", "c")
    unavailable.discard("other", "b")
    assert {"b"} == unavailable.of("key")


def test_it_is_false_when_empty():
    """Then a successful call need not look up its model."""
    unavailable = UnavailableModels(clock=Clock())
    assert not unavailable
    unavailable.add("key", "a")
    assert unavailable
    unavailable.discard("key", "a")
    assert not unavailable


def test_the_models_of_a_key_are_bounded():
    """A caller that requests invented models evicts only entries of its own key."""
    unavailable = UnavailableModels(clock=Clock(), models_max=2)
    unavailable.add("other", "real")
    for model in ("a", "b", "a", "c"):
        unavailable.add("key", model)
    assert ({"a", "c"}, {"real"}) == (unavailable.of("key"), unavailable.of("other"))


def test_the_keys_are_bounded():
    """The key with the oldest rejection is evicted."""
    unavailable = UnavailableModels(clock=Clock(), keys_max=2)
    for key in ("first", "second", "first", "third"):
        unavailable.add(key, "a")
    assert [{"a"}, set(), {"a"}] == [unavailable.of(key) for key in ("first", "second", "third")]
