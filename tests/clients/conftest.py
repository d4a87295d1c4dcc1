"""Prints the conformance table of case by language after the tests."""

from conformance import actors, judge
from support.conformance import cases_of

NOT_APPLICABLE = "-"
MARKS = {"passed": "ok", "failed": "FAIL"}


def pytest_terminal_summary(terminalreporter):
    verdicts = {}
    for outcome, mark in MARKS.items():
        for report in terminalreporter.stats.get(outcome, []):
            for name, cell in getattr(report, "user_properties", []):
                if name == "cell":
                    language, case = cell
                    verdicts.setdefault(language, {})[case] = mark
    if verdicts:
        terminalreporter.section("conformance")
        cases = {name: [case.id for case in cases_of(actors.LANGUAGES[name])] for name in verdicts}
        rows = list(dict.fromkeys(case for each in cases.values() for case in each))
        for name, cells in verdicts.items():
            verdicts[name] = {row: NOT_APPLICABLE for row in rows if row not in cases[name]} | cells
        terminalreporter.write_line(judge.table(rows, verdicts))
