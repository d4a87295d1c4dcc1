"""The table of reasons is complete, and every other set of reasons is derived from it."""

import ast
from pathlib import Path

import pytest

import togetherchat_server
from togetherchat_server.domain.reasons import TABLE, AttemptClass, Reason


def test_the_table_is_total():
    """Every reason has its row."""
    assert set(Reason) == set(TABLE)


def test_a_reason_is_its_own_name():
    """Call records, statuses and code have the same word."""
    assert [] == [reason for reason in Reason if reason.name != reason.value]


@pytest.mark.parametrize("reason", Reason)
def test_what_may_be_billed_is_not_advertised_as_retryable(reason):
    """A caller that retries such a call may pay twice, and only the operator may decide that."""
    assert not (reason.row.attempt_class is AttemptClass.MAY_BE_BILLED and reason.row.retryable)


def reasons_of(node):
    """The reasons that a set contains, as members or as words."""
    for element in node.elts:
        match element:
            case ast.Attribute(value=ast.Name(id="Reason"), attr=name) if name in Reason.__members__:
                yield name
            case ast.Constant(value=str() as word) if word in Reason.__members__:
                yield word


def test_no_other_module_lists_reasons_in_a_set():
    """A third reason in a set is a fact about reasons, which belongs to their table."""
    package = Path(togetherchat_server.__file__).parent
    lists = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Set) and len(list(reasons_of(node))) > 2
    ]

    assert [] == lists
