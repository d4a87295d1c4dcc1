"""Collects which client proved which feature, and renders docs/integrations.md from it.

The suites of all languages append JSON lines; README.md has the format. Standard library only, because each
suite runs in an environment of its own.

    python tests/sdks/integrations.py check FOLDER PAGE
    python tests/sdks/integrations.py write FOLDER PAGE
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
FEATURES = ("call", "stream", "tools", "schema", "errors", "cancel")
LANGUAGES = ("python", "node", "java", "go", "rust")
"""The suites that write lines, each to `LANGUAGE.jsonl`, in the order of the page."""
FENCES: Mapping[str, str] = {
    ".py": "python",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".java": "java",
    ".go": "go",
    ".rs": "rust",
}
INTRODUCTION = """# Integrations

`make test-sdks` and `make test-sdks-compiled` run these clients, as published, against the [OpenAI-compatible API](openai-api.md).
A test proves each *yes*. `make integrations` renews this page.

| column | what the client does |
|---|---|
| call | returns a completion |
| stream | returns a completion piece by piece |
| tools | lets the model call a function, and returns the arguments |
| schema | returns a value that fits a schema |
| errors | raises its own class of error when the provider fails |
| cancel | releases the provider when the program closes a stream or cancels the task that reads it |

Below, `base_url` is the address of the service, `http://localhost:3000/v1` after `make run`, and `model` is the id of a
model, such as `openai/gpt-oss-120b`.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One feature of one client. `source` is the path of the test, from the root of the repository."""

    client: str
    feature: str
    result: str
    source: str
    reason: str = ""


def read_lines(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of all files. Those of one file are sorted by client: a suite may run in parallel."""
    return [line for path in paths for line in sorted(_lines(path.read_text("utf-8")), key=_by_client)]


def _lines(text: str) -> list[Line]:
    return [Line(**json.loads(line)) for line in text.splitlines()]


def _by_client(line: Line) -> str:
    return line.client.lower()


def append_line(path: str | Path, line: Line) -> None:
    """Append a line to a file."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: value for name, value in vars(line).items() if value}) + "\n")


def setup_of(source: str, client: str) -> str:
    """Return the set-up of a client: the lines between `docs: begin` and `docs: end` in a test's source.

    Where a source has the set-ups of several clients, each begins with `docs: begin CLIENT`.
    """
    comment = r"^[ \t]*(?:#|//)[ \t]*docs: "
    block = rf"{comment}begin(?: {re.escape(client)})?[ \t]*\n(.*?){comment}end"
    found = re.search(block, source, re.DOTALL | re.MULTILINE)
    return dedent(found[1]).strip("\n") if found else ""


def problems(lines: Sequence[Line], setups: Mapping[str, str]) -> list[str]:
    """Return what is missing, duplicate or without a reason."""
    found = [
        f"{line.client}: {line.feature}: not a feature" for line in lines if line.feature not in FEATURES
    ]
    found += [
        f"{line.client}: {line.feature}: must be `yes`, or `n/a` with a reason"
        for line in lines
        if line.result not in {"yes", "n/a"} or (line.result == "n/a") != bool(line.reason)
    ]
    for client, setup in setups.items():
        features = [line.feature for line in lines if line.client == client]
        counts = {feature: features.count(feature) for feature in FEATURES}
        found += [f"{client}: {feature}: no test proved it" for feature in FEATURES if not counts[feature]]
        found += [f"{client}: {feature}: {count} lines" for feature, count in counts.items() if count > 1]
        if not setup:
            found.append(f"{client}: no set-up between `docs: begin` and `docs: end`")
    return found


def rows(lines: Sequence[Line], clients: Iterable[str]) -> list[str]:
    """Return the rows of the table."""
    results = {(line.client, line.feature): line.result for line in lines}
    return [
        f"| {client} | {' | '.join(results[client, feature] for feature in FEATURES)} |" for client in clients
    ]


def sections(lines: Sequence[Line], setups: Mapping[str, str]) -> list[str]:
    """Return a section for each client: its test, its set-up and what it does not offer."""
    return [
        _section(client, setup, [line for line in lines if line.client == client])
        for client, setup in setups.items()
    ]


def _section(client: str, setup: str, lines: Sequence[Line]) -> str:
    source = lines[0].source
    missing = "".join(f"\nNo *{line.feature}*: {line.reason}\n" for line in lines if line.result == "n/a")
    return (
        f"## {client}\n\nTest: [{Path(source).name}](../{source})\n"
        f"\n```{FENCES.get(Path(source).suffix, '')}\n{setup}\n```\n{missing}"
    )


def page(lines: Sequence[Line], setups: Mapping[str, str]) -> str:
    """Return docs/integrations.md."""
    head = [f"| client | {' | '.join(FEATURES)} |", "|---" * (len(FEATURES) + 1) + "|"]
    table = "\n".join([*head, *rows(lines, setups)])
    return "\n".join([INTRODUCTION, table, "", *sections(lines, setups)])


def differs(lines: Sequence[Line], setups: Mapping[str, str], current: str, *, complete: bool) -> bool:
    """Return whether the current page differs; without all languages, whether it lacks a row or a section."""
    if complete:
        return page(lines, setups) != current
    parts = [*rows(lines, setups), *sections(lines, setups)]
    return not all(part in current for part in parts)


def main(arguments: Sequence[str]) -> str | None:
    """Check or write the page. Returns what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=("check", "write"))
    parser.add_argument("folder", type=Path, help="the folder with the JSON lines")
    parser.add_argument("page", type=Path)
    options = parser.parse_args(arguments)

    files = {language: options.folder / f"{language}.jsonl" for language in LANGUAGES}
    missing = [language for language, file in files.items() if not file.exists()]
    lines = read_lines(file for file in files.values() if file.exists())
    setups = {line.client: setup_of((ROOT / line.source).read_text("utf-8"), line.client) for line in lines}
    if found := problems(lines, setups):
        return "\n".join(found)
    if options.action == "write":
        if missing:
            return f"{options.page}: not written, because these suites did not run: {', '.join(missing)}"
        options.page.write_text(page(lines, setups), "utf-8")
    elif differs(lines, setups, options.page.read_text("utf-8"), complete=not missing):
        return f"{options.page}: differs from what the tests proved (renew it with `make integrations`)"
    print(f"{options.page}: {len(setups)} clients, {len(lines)} features, as tested")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
