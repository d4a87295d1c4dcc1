"""Runs one target under the fuzzer: `python -m fuzz.under_atheris TARGET [libFuzzer's own arguments]`.

The only module that imports atheris. Only the service's own code is instrumented: the fuzzer should
explore that. The parsers are C and Rust, so a mutator that keeps the format (`mutators`) makes half of
the changes.
"""

import importlib
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from fuzz.mutators import Mutator

OURS = ["togetherchat_server"]


def main(arguments: list[str]) -> None:
    """Fuzz. Never returns: libFuzzer ends the process."""
    _, name, *rest = arguments
    # Modules that import the service must be imported here, or its code is not instrumented.
    with atheris.instrument_imports(include=OURS, enable_loader_override=False):
        target = importlib.import_module(f"fuzz.targets.{name}").target
        mutator = importlib.import_module("fuzz.mutators").MUTATORS.get(name)
    options = {"custom_mutator": _mixed(mutator)} if mutator else {}
    # To merge, libFuzzer restarts itself through a shell, with its first argument as the command.
    command = f"{sys.executable} -m fuzz.under_atheris {name}"
    atheris.Setup([command, *rest], target, **options)
    atheris.Fuzz()


def _mixed(mutator: "Mutator") -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        dice = random.Random(seed)
        changed = mutator(data, dice, atheris.Mutate) if dice.randrange(2) else None
        if changed is None or len(changed) > bytes_max:
            return atheris.Mutate(data, bytes_max)
        return changed

    return mutate


if __name__ == "__main__":
    main(sys.argv)
