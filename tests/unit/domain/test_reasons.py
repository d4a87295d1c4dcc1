import inspect

from togetherchat_server.domain import reasons
from togetherchat_server.domain.reasons import Reason


def test_the_drawing_names_every_kind_once():
    """The hierarchy at the top of the module is the enumeration, no more and no less."""
    words = [word.strip(",") for word in (inspect.getdoc(reasons) or "").split()]
    drawn = [word for word in words if word.isupper() and len(word) > 4]

    assert sorted(Reason.__members__) == sorted(drawn)


def test_a_kind_is_its_own_name():
    """Records and reasons read the same word."""
    assert [reason for reason in Reason if reason.name != reason.value] == []
