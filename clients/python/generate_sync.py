"""Generates the sync client from the async client.

`togetherchat_client/_async` is written by hand. This script applies the rules below to each of its
files and writes the results to `togetherchat_client/_sync`. A rule that matches nothing is an error,
because the source has then changed and the rule is stale.

    python clients/python/generate_sync.py

The script leaves out lines that end in `# async only`, and lines between `# begin async only` and
`# end async only`.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parent / "togetherchat_client"
SOURCE = PACKAGE / "_async"
TARGET = PACKAGE / "_sync"
MARK = "# Generated from {source} by generate_sync.py. Edit that file instead.\n"

RULES = (
    (r"(?ms)^ *# begin async only\n.*?# end async only\n", ""),
    (r"(?m)^.*  # async only\n", ""),
    # gRPC's sync API starts a call with `future` and waits for it with `result`.
    (r"\)\.chat\.(Complete|GetModel|ListModels)\(", r").chat.\1.future("),
    (r"\)\.usage\.(ListQuotas|QueryUsage|ResetQuota)\(", r").usage.\1.future("),
    (r"\bcheck\(", "check.future("),
    (r"\bawait call\n", "call.result()\n"),
    (r"\baiter\(self\._call\)", "events_of(self._call)"),
    (r"\bself\._call = call\n", "self._call = as_call(call)\n"),
    (
        r"(?m)^from togetherchat_client\._async\.calls import OnInfo, error_from_call$",
        r"\g<0>\nfrom togetherchat_client.blocking import as_call, events_of",
    ),
    (
        r"from grpc\.aio import Call, UnaryUnaryCall",
        "from togetherchat_client.blocking import BlockingCall, FutureCall",
    ),
    (r"from grpc\.aio import UnaryStreamCall", "from togetherchat_client.blocking import IteratorCall"),
    (r"\bUnaryUnaryCall\[RequestT, ResponseT\]", "FutureCall[ResponseT]"),
    (r"\bUnaryStreamCall\[[\w.]+, ([\w.]+)\]", r"IteratorCall[\1]"),
    (r'"Call"', '"BlockingCall"'),
    # Python's async syntax and names.
    (r"\(await (self\._channels\.opened\(arguments\))\)", r"\1"),
    (r"\bawait ", ""),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(iter|next)\(", r"\1("),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"(?m)^( *)for model in page\.models:\n +yield model$", r"\1yield from page.models"),
    # This library's names.
    (r"\bconnect_async\b", "connect"),
    (r"\bAsync(Channels|Client|CompletionStream)\b", r"\1"),
    (r"\btogetherchat_client\._async\b", "togetherchat_client._sync"),
    (
        r"The asyncio client\. `generate_sync\.py` generates `_sync` from this package\.",
        "The sync client.",
    ),
)


class StaleRuleError(Exception):
    """A rule matched nothing."""


def generate(sources: Mapping[str, str]) -> dict[str, str]:
    """The sync version of each source, by file name.

    Raises:
        StaleRuleError: a rule matched in none of the sources.
    """
    matches = dict.fromkeys((pattern for pattern, _ in RULES), 0)
    generated: dict[str, str] = {}
    for name, text in sources.items():
        rewritten = text
        for pattern, replacement in RULES:
            rewritten, count = re.subn(pattern, replacement, rewritten)
            matches[pattern] += count
        generated[name] = MARK.format(source=f"_async/{name}") + rewritten
    stale = [pattern for pattern, count in matches.items() if count == 0]
    if stale:
        raise StaleRuleError(f"rules that match nothing: {', '.join(stale)}")
    return generated


def read_sources() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(SOURCE.glob("*.py"))}


def main() -> int:
    """Write the files that changed, and delete files without a source."""
    generated = generate(read_sources())
    for path in TARGET.glob("*.py"):
        if path.name not in generated:
            path.unlink()
    for name, text in generated.items():
        path = TARGET / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
