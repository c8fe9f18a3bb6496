"""Fuzz one target with coverage as the guide: `fuzz/run_target.py NAME [options of libFuzzer] [DIR...]`.

Needs atheris (`pip install -e ".[fuzz]"`, or `tox -e fuzz`). The first folder takes what is new; a finding ends the run
with a traceback and its input in a file `crash-*` (libFuzzer's -artifact_prefix says where). Environment:
GRIDPOST_FUZZ_SABOTAGE=NAME breaks the product first, to see that it is found (tests/campaigns/fuzz_sabotage.py).
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "campaigns"))

with atheris.instrument_imports(include=["gridpost"]):
    import targets

import fuzz_sabotage
import genuine_samples
import mutations


def _mutate(data: bytes, most: int, seed: int) -> bytes:
    """Half of the time one of the campaign's own changes, which know what XML is."""
    chance = random.Random(seed)
    if chance.random() < 0.5 or not data:
        return atheris.Mutate(data, most)
    for _ in range(chance.randint(1, 3)):
        change = chance.choice((*mutations.BYTES, *mutations.TEXT))
        try:
            data = change(chance, data) or data
        except (IndexError, ValueError):  # nothing in it to change that way
            continue
    return data[:most]


def main() -> None:
    """Run until libFuzzer's own options say stop."""
    name = sys.argv.pop(1)
    target = targets.TARGETS[name]
    fuzz_sabotage.apply(os.environ.get("GRIDPOST_FUZZ_SABOTAGE", ""))
    genuine_samples.samples()

    def one(data: bytes) -> None:
        targets.outcome(target, data)

    if name in targets.XML:
        atheris.Setup(sys.argv, one, custom_mutator=_mutate)
    else:
        atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
