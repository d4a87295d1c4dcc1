import inspect

from togetherchat_server.domain.reasons import Kind


def test_the_drawing_names_every_kind_once():
    """The hierarchy at the top of the module is the enumeration, no more and no less."""
    words = [word.strip(",") for word in (inspect.getdoc(errors) or "").split()]
    drawn = [word for word in words if word.isupper() and len(word) > 4]

    assert sorted(Kind.__members__) == sorted(drawn)


def test_a_kind_is_its_own_name():
    """Records and reasons read the same word."""
    assert [kind for kind in Kind if kind.name != kind.value] == []
