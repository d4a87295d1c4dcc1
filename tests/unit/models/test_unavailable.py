"""What is remembered of models that the provider refused, for whom and how long."""

from togetherchat_server.models.unavailable import UnavailableModels


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_a_refusal_is_remembered_for_its_key_alone():
    """Another key may have what this one has not."""
    refusals = UnavailableModels(clock=Clock())
    refusals.add("first", "a/b")
    assert ({"a/b"}, set()) == (refusals.of("first"), refusals.of("second"))


def test_a_refusal_expires():
    """Providers bring models back; each refusal begins its time anew."""
    clock = Clock()
    refusals = UnavailableModels(clock=clock, remembered_s=10.0)
    refusals.add("key", "early")
    refusals.add("key", "again")
    clock.now_s += 9.0
    refusals.add("key", "again")
    assert {"early", "again"} == refusals.of("key")
    clock.now_s += 1.0
    assert {"again"} == refusals.of("key")
    clock.now_s += 9.0
    assert set() == refusals.of("key")


def test_an_answer_ends_it():
    """And leaves others as they are; of what was never refused it changes nothing."""
    refusals = UnavailableModels(clock=Clock())
    refusals.add("key", "a")
    refusals.add("key", "b")
    refusals.discard("key", "a")
    refusals.discard("key", "c")
    refusals.discard("other", "b")
    assert {"b"} == refusals.of("key")


def test_it_knows_when_it_holds_nothing():
    """Then no successful call has to look anything up."""
    refusals = UnavailableModels(clock=Clock())
    assert not refusals
    refusals.add("key", "a")
    assert refusals
    refusals.discard("key", "a")
    assert not refusals


def test_the_models_of_a_key_are_bounded():
    """Who asks for inventions pushes out the oldest of its own, and nobody else's."""
    refusals = UnavailableModels(clock=Clock(), models_max=2)
    refusals.add("other", "real")
    for model in ("a", "b", "a", "c"):
        refusals.add("key", model)
    assert ({"a", "c"}, {"real"}) == (refusals.of("key"), refusals.of("other"))


def test_the_keys_are_bounded():
    """The one that was refused longest ago is forgotten."""
    refusals = UnavailableModels(clock=Clock(), keys_max=2)
    for key in ("first", "second", "first", "third"):
        refusals.add(key, "a")
    assert [{"a"}, set(), {"a"}] == [refusals.of(key) for key in ("first", "second", "third")]
