"""Every client against the real server, by one list of cases: clients/conformance/README.md.

`CLIENTS` names the languages to run, or `all`. The default is the Python clients, which need no other
tools. A language whose tools are missing is skipped, unless `CI` is set.
"""

import os
from dataclasses import replace

import pytest

from conformance import actors
from support.conformance import cases_of, run_all, verdicts

SELECTED = os.environ.get("CLIENTS", ",".join(actors.IN_PYTHON))
LANGUAGES = list(actors.LANGUAGES) if SELECTED == "all" else SELECTED.split(",")


@pytest.mark.parametrize(
    ("language", "case"),
    [(language, case.id) for language in LANGUAGES for case in cases_of(actors.LANGUAGES[language])],
)
def test_the_observation_of_a_client_is_as_expected(case, language, record_property):
    """The actor's observation equals the expectation of the case: one cell of the table."""
    if missing := actors.LANGUAGES[language].missing():
        reason = f"{language} needs {', '.join(missing)}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    record_property("cell", (language, case))

    assert [] == verdicts(language)[case]


def test_an_actor_that_writes_nothing_fails_every_case():
    """A case without an observation fails."""
    silent = replace(actors.LANGUAGES["python"], command=("true",))
    found = run_all(silent, {})

    assert {case.id for case in cases_of(silent)} == {
        case for case, why in found.items() if "the actor ended" in why[0]
    }
