"""One target under the fuzzer: `python -m fuzz.under_atheris TARGET [libFuzzer's own arguments]`.

The one file that knows atheris. The service's own code is instrumented, nothing else: what is
to be explored is ours. The fuzzer's parsers are C and Rust, so half of the changes are made by
a mutator that keeps the form (`mutators`).
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
    """Never returns: libFuzzer ends the process."""
    _, name, *rest = arguments
    # Whatever imports the service must be imported in here, or the fuzzer is blind.
    with atheris.instrument_imports(include=OURS, enable_loader_override=False):
        target = importlib.import_module(f"fuzz.targets.{name}").target
        mutator = importlib.import_module("fuzz.mutators").MUTATORS.get(name)
    more = {"custom_mutator": _mixed(mutator)} if mutator else {}
    # To merge, libFuzzer starts itself again, through a shell, by what it takes for its name.
    again = f"{sys.executable} -m fuzz.under_atheris {name}"
    atheris.Setup([again, *rest], target, **more)
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
