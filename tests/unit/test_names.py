"""Every class has one name: no two classes of the server, the sandbox and the client share one."""

import ast
import collections
import pathlib

REPOSITORY = pathlib.Path(__file__).parents[2]
PACKAGES = (
    "server/togetherchat_server",
    "server/togetherchat_sandbox",
    "clients/python/togetherchat_client",
)
# Generated from `_async`, with the same names.
GENERATED = "_sync"


def test_no_class_name_is_defined_twice():
    """A class name found by a search leads to one definition."""
    definitions = collections.defaultdict(list)
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if GENERATED in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    definitions[node.name].append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert len(definitions) > 200, "the packages were not found"
    assert {name: found for name, found in definitions.items() if len(found) > 1} == {}
