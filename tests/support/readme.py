"""The README's programs: for each language the installation and four complete programs."""

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "localhost:50051"
HERE = "// here\n"

WRITTEN = {
    "A stream": r"Why is the sky blue\?",
    "A call": r"Name three rivers\..*\s\d+\s*$",
    "A tool loop": r"celsius\W+7",
    "An error, with back-off": r"^RATE_LIMITED_REQUESTS \S+ again in .*\n(?s:.*)Hello!",
}
"""A pattern in the output of each program, by the program's title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language: the lines before the first program, the line that runs one, and all four programs."""

    install: str
    run: str
    file: str
    snippets: dict[str, str]
    programs: dict[str, str]


def languages(text=None):
    """The languages by the names in the summaries."""
    text = README.read_text(encoding="utf-8") if text is None else text
    blocks = re.findall(
        r"^<summary><b>(\w+)[^<]*</b></summary>\n(.*?)^</details>", text, re.MULTILINE | re.DOTALL
    )
    return {name.lower(): language(block) for name, block in blocks}


def language(block):
    (shell,) = re.findall(r"^```sh\n(.*?)^```", block, re.MULTILINE | re.DOTALL)
    *install, run = shell.splitlines()
    frame = re.search(r"^```\w+ frame\n(.*?)^```", block, re.MULTILINE | re.DOTALL)
    snippets = dict(re.findall(r"^([A-Z][^\n]*):\n\n```\w+\n(.*?)^```", block, re.MULTILINE | re.DOTALL))
    return Language(
        install="\n".join(install),
        run=run,
        file=re.search(r"hello\.\w+", run, re.IGNORECASE)[0],
        snippets=snippets,
        programs={title: program_of(frame and frame[1], snippet) for title, snippet in snippets.items()},
    )


def program_of(frame, snippet):
    """Insert the snippet at the frame's mark, or append it to a frame without a mark."""
    if frame is None:
        return snippet
    return frame.replace(HERE, snippet) if HERE in frame else f"{frame}\n{snippet}"
