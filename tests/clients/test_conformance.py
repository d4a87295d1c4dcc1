"""Every client against the real server, by one list of cases: clients/conformance/README.md.

`CLIENTS` names the languages to run, `all` for all of them; without it those in Python, which
need nothing more. A language whose tools are not installed is skipped, but not where `CI` is set.
"""

import os
from dataclasses import replace

import pytest

from conformance import actors
from support.conformance import CASES, play_all, verdicts

ASKED = os.environ.get("CLIENTS", ",".join(actors.IN_PYTHON))
LANGUAGES = list(actors.LANGUAGES) if ASKED == "all" else ASKED.split(",")


@pytest.mark.parametrize("case", [case.id for case in CASES])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_sees_what_it_should(case, language, record_property):
    """One cell of the table: what the actor saw is what was to be seen."""
    if missing := actors.LANGUAGES[language].missing():
        reason = f"{language} needs {', '.join(missing)}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    record_property("cell", (language, case))

    assert [] == verdicts(language)[case]


def test_an_actor_that_says_nothing_fails_every_case():
    """Nothing is taken as seen that no actor has said."""
    silent = replace(actors.LANGUAGES["python"], command=("true",))
    found = play_all(silent, {})

    assert [case.id for case in CASES] == [case for case, why in found.items() if "the actor ended" in why[0]]
