"""Tests of the history of published runs."""

import pytest
from bench import history
from bench.report import targets
from bench.targets import Entry, Target, Verdict


def entry(commit, machine="m", **measured):
    return Entry(commit=commit, date="2026-01-01", machine=machine, targets=measured)


def verdict(measured, **bounds):
    return Verdict(
        target=Target(text="t", unit="ms", measured=lambda results: None, **bounds), measured=measured
    )


def test_a_run_is_compared_with_the_latest_of_another_commit():
    """A second run of the same commit is compared with the commit before, too."""
    entries = [entry("a"), entry("b"), entry("c")]
    assert "b" == history.latest(entries, machine="m", other_than="c").commit


def test_runs_of_another_machine_are_not_compared():
    """Times of two machines do not compare."""
    assert history.latest([entry("a", machine="other")], machine="m", other_than="c") is None


def test_a_run_replaces_that_of_its_commit():
    """A commit has one entry for each machine."""
    known = [entry("a", t=1.0), entry("b", t=1.0), entry("a", machine="other")]
    kept = history.with_entry(known, entry("a", t=2.0))
    assert [("b", "m"), ("a", "other"), ("a", "m")] == [(one.commit, one.machine) for one in kept]
    assert {"t": 2.0} == kept[-1].targets


@pytest.mark.parametrize(
    ("bounds", "earlier", "measured", "worse"),
    [
        ({"most": 100.0}, 50.0, 80.0, True),
        ({"most": 100.0}, 50.0, 60.0, False),
        ({"most": 100.0}, 1.0, 4.0, False),
        ({"most": 0.0}, 0.0, 1.0, True),
        ({"least": 20.0}, 30.0, 20.0, True),
        ({"least": 20.0}, 30.0, 29.0, False),
        ({"most": 100.0}, None, 80.0, False),
        ({"most": 100.0}, 50.0, None, False),
    ],
)
def test_worse_is_more_than_noise(bounds, earlier, measured, worse):
    """A fifth is noise, and so is a twentieth of the bound."""
    assert worse is verdict(measured, **bounds).is_worse_than(earlier)


def test_the_report_shows_the_earlier_value():
    """The column has the commit, and marks what became worse."""
    text = targets([verdict(80.0, most=100.0)], entry("abc", t=50.0))
    assert "before (abc)" in text
    assert "| 50 ms, **worse now** |" in text


def test_a_run_without_an_earlier_one_has_no_such_column():
    """The first run is not compared."""
    assert "before" not in targets([verdict(80.0, most=100.0)])


def test_publishing_keeps_the_page_above_the_mark():
    """People write the top of RESULTS.md, the program the tables."""
    page = f"# Results\n\nprose\n\n{history.MARK}\nold tables\n"
    text = history.published(page, "# Results\n\nnew tables\n")
    assert f"# Results\n\nprose\n\n{history.MARK}\nnew tables\n" == text


def test_publishing_shows_pictures_that_the_page_does_not_show():
    """A new picture appears above the tables until somebody places it."""
    page = f"![Latency](pictures/latency.png)\n{history.MARK}"
    text = history.published(page, "tables\n", ["latency", "paced"])
    assert text.endswith(f"{history.MARK}\n![paced](pictures/paced.png)\n\ntables\n")


def test_a_page_without_the_mark_is_not_overwritten():
    """Prose is never replaced by tables."""
    with pytest.raises(ValueError, match="does not have the line"):
        history.published("# Results\n", "tables")


def test_the_page_of_results_has_the_mark():
    """`make bench-publish` can write into the page."""
    assert history.MARK in history.RESULTS.read_text("utf-8")
