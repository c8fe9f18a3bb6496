"""A thousand changes in proofs of bills: each found by `gridpost verify`, each named.

    tests/campaigns/proof.py [--bytes 500] [--forgeries 500] [--seed N] [--keep DIR] [--sabotage NAME] [--json]

1. Single bytes: half of them digits, in every line of a genuine proof alike; a digit becomes another, any other byte
   its neighbour. Named is: a finding of the very line.
2. Forgeries (proof_forger.py): somebody has all entries of the log, recomputes every hash (contents, rows, leaves,
   tree, receipts, the bill itself) but has no key. He changes a value, an interval, a line of the bill, a tariff or the
   contract, puts in the receipt of another message or an older version; signatures are the genuine ones, stale ones,
   his own, or those of a CA of his own, in turns. Named is: every finding that such a forgery deserves, with its place.

The genuine proof must hold, before and after. `--sabotage` switches one check of the verifier off (proof_sabotage.py);
then the campaign stops at the first change that is not named, within `--seed 1 --bytes 0 --forgeries 100` for each.
Files go through `gridpost verify`'s own code. Exit status: 0 everything was found and named, 1 something was not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from gridpost.server.commands import verify

sys.path.insert(0, str(Path(__file__).parent))

import proof_sabotage
import proof_world
from proof_forger import Forger, forge
from traffic import told

from gridpost.errors import Item

MOST_PROBLEMS = 50
SAID_EACH = 50


class Plan(NamedTuple):
    """How much is changed, and of which month."""

    bytes: int = 500
    forgeries: int = 500
    seed: int = 1
    sabotage: str = ""
    month: proof_world.Month = proof_world.WHOLE
    keep: Path | None = None


@dataclass
class Outcome:
    """What was seen: changes made, those with any finding, those whose findings name them; by kind as well."""

    seed: int
    sabotage: str
    changes: int = 0
    found: int = 0
    named: int = 0
    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    genuine_holds: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.genuine_holds and self.changes == self.found == self.named and not self.problems

    def count(self, kind: str, items: Sequence[Item], missing: Sequence[str], done: str) -> None:
        """Count one change; `missing`: what of it was not named."""
        counts = self.by_kind.setdefault(kind, {"changes": 0, "found": 0, "named": 0})
        found, named = bool(items), bool(items) and not missing
        self.changes, self.found, self.named = self.changes + 1, self.found + found, self.named + named
        for name, one in (("changes", 1), ("found", found), ("named", named)):
            counts[name] += one
        for code in {item.code for item in items}:
            self.codes[code] = self.codes.get(code, 0) + 1
        if not named and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{kind}: {done}: {'not named: ' + '; '.join(missing) if found else 'not found'}")


class Verifying:
    """Hands files to `gridpost verify`."""

    def __init__(self, folder: Path, trusted: str, keep: Path | None) -> None:
        self._file, self._trusted, self._keep, self._number = folder / "proof", trusted, keep, 0

    def items(self, raw: bytes) -> Sequence[Item]:
        """What it finds."""
        self._file.write_bytes(raw)
        if self._keep is not None:
            (self._keep / f"{self._number:04}.proof").write_bytes(raw)
            self._number += 1
        return verify.verify(self._file, [self._trusted], lambda _: None).items


def campaign(folder: Path, plan: Plan) -> Outcome:
    """Change, verify, count."""
    world = proof_world.build(plan.month)
    forger = Forger(world)
    genuine = forger.file(forger.genuine)
    outcome = Outcome(plan.seed, plan.sabotage)
    verifying = Verifying(folder, world.ca.pem.decode(), plan.keep)
    with proof_sabotage.applied(plan.sabotage):
        holds = not verifying.items(genuine)
        _bytes(verifying, genuine, plan, outcome)
        _forgeries(verifying, forger, plan, outcome)
        outcome.genuine_holds = holds and not verifying.items(genuine)
    return outcome


def _bytes(verifying: Verifying, genuine: bytes, plan: Plan, outcome: Outcome) -> None:
    lines = genuine.splitlines(keepends=True)
    for number in range(plan.bytes):
        chance = random.Random(plan.seed << 32 | number)
        line = number % len(lines)
        before, digit = sum(map(len, lines[:line])), number // len(lines) % 2 == 0
        places = [at for at, byte in enumerate(lines[line]) if 48 <= byte <= 57 or not digit]
        at = before + chance.choice(places)
        other = chance.choice([one for one in b"0123456789" if one != genuine[at]]) if digit else genuine[at] ^ 1
        items = verifying.items(genuine[:at] + bytes([other]) + genuine[at + 1 :])
        place = f"line {line + 1}"
        named = any(f"{item.path} ".startswith(f"{place} ") for item in items)
        done = f"byte {at}, {chr(genuine[at])!r} to {chr(other)!r} in {genuine[at - 20 : at + 20]!r}"
        outcome.count("digit" if digit else "byte", items, [] if named else [place], f"{place}, {done}")
        _progress("bytes", number + 1, plan.bytes, outcome)


def _forgeries(verifying: Verifying, forger: Forger, plan: Plan, outcome: Outcome) -> None:
    for number in range(plan.forgeries):
        if plan.sabotage and outcome.named < outcome.changes:
            return
        kind, made = forge(forger, plan.seed, number)
        items = verifying.items(made.raw)
        missing = [
            f"{code} at {place}"
            for code, place in made.named
            if not any(item.code == code and place in item.path for item in items)
        ]
        outcome.count(kind, items, missing, f"forgery {number}, {made.style}: {made.done}")
        _progress("forgeries", number + 1, plan.forgeries, outcome)


def _progress(what: str, done: int, of: int, outcome: Outcome) -> None:
    if done % SAID_EACH == 0 or done == of:
        print(f"{what}: {done} of {of}, {outcome.changes - outcome.named} not named", file=sys.stderr)


def main() -> int:
    """Run it as its options say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=Plan().bytes)
    parser.add_argument("--forgeries", type=int, default=Plan().forgeries)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", type=Path, help="folder that exists: every file is kept there")
    parser.add_argument("--sabotage", choices=proof_sabotage.SABOTAGES, default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.bytes < 0 or asked.forgeries < 0 or not asked.bytes + asked.forgeries:
        parser.error("something has to be changed")
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(asked.bytes, asked.forgeries, asked.seed, asked.sabotage, keep=asked.keep)
        outcome = campaign(Path(folder), plan)
    return told({**asdict(outcome), "ok": outcome.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
