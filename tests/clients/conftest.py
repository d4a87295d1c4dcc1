"""Prints the conformance table of case by language after the tests."""

from conformance import judge
from support.conformance import CASES

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
        terminalreporter.write_line(judge.table([case.id for case in CASES], verdicts))
