"""The blocks of code in the operations guide, by the title of their section."""

import re

from rendered import ROOT

GUIDE = (ROOT / "deploy/README.md").read_text("utf-8")


def blocks(title: str, language: str = "sh") -> list[str]:
    """Return the blocks in a language under a title, in the order of the page."""
    section = GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
