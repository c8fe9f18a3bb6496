"""Mutation testing: damages the modules that trust and durability hang on, and asks whether tests notice.

    tests/campaigns/mutate.py [FILE...] [--changed BASE] [--sample N] [--seed N] [--workers N] [--json]

For each file: the score (mutants that a test noticed, of all), at least 90 %, and branch coverage, all of it. Each
survivor, and each line or branch without a test, stands in `mutants_accepted.toml` with a reason; one that does not, or
an entry that nothing needs any more, fails the command. Made in `mutants.py`, tried in `mutant_trials.py`.

With --changed only files that differ from a git base are tried; with --sample only some mutants of each.
--sabotage "tests-off NAME" leaves out a test file: the score must fall and the survivors show.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import mutants
from mutant_children import TIMEOUT
from mutant_trials import ROOT, Seen, Target, Trial, see, trials, warm

ACCEPTED = Path(__file__).parent / "mutants_accepted.toml"
LEAST_SCORE = 90  # per cent

_CORE = (
    "envelope", "envelope_edges", "forgeries", "wssecurity", "wssecurity_edges", "exchange", "exchange_edges",
    "recogniser", "recogniser_edges", "answers",
)  # fmt: skip
_OF_THE_CORE = (*(f"tests/core/test_{name}.py" for name in _CORE), "tests/server/logbook/test_heads.py")
_CORRIDOR = tuple(f"tests/server/test_{name}.py" for name in ("reception", "reception_told", "admission"))
_WRITER = tuple(f"tests/server/test_{name}.py" for name in ("writer", "writer_faults", "group"))
_STORE = (*_WRITER, "tests/contract/test_store.py")
_MDEF = tuple(f"tests/adapters/test_{name}.py" for name in ("mv90", "mdef_edges", "layout_edges", "float32"))
TARGETS = {
    target.file: target
    for target in (
        Target("gridpost/envelope.py", _OF_THE_CORE),
        Target("gridpost/wssecurity.py", (*_OF_THE_CORE, "tests/core/test_unreadable_certificates.py")),
        Target("gridpost/exchange.py", (*_OF_THE_CORE, "tests/core/test_unreadable_certificates.py")),
        Target("gridpost/recogniser.py", _OF_THE_CORE),
        Target("server/reception.py", _CORRIDOR),
        Target("server/store/writer.py", _STORE),
        Target("server/store/group.py", _STORE),
        Target("adapters/mv90/render.py", _MDEF),
        Target("adapters/mv90/layout.py", _MDEF),
    )
}


@dataclass
class OfFile:
    """Raw counts of one file; `problems` says what does not hold."""

    file: str
    mutants: int = 0
    tried: int = 0
    killed: int = 0
    timeouts: int = 0
    survivors: int = 0
    accepted: int = 0
    score: float = 0.0
    statements: int = 0
    branches: int = 0
    not_covered: int = 0
    tests: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Accepted:
    """What `mutants_accepted.toml` says of one file: survivors by (function, mutation), and lines without a test."""

    survivors: frozenset[tuple[str, str]]
    lines: frozenset[str]

    @classmethod
    def of(cls, file: str, path: Path = ACCEPTED) -> Accepted:
        rows = tomllib.loads(path.read_text())
        for row in (*rows.get("survivor", []), *rows.get("not_covered", [])):
            if not row["reason"].strip():
                raise SystemExit(f"{path.name}: no reason: {row}")
        survivors = [row for row in rows.get("survivor", []) if row["file"] == file]
        lines = [row["line"] for row in rows.get("not_covered", []) if row["file"] == file]
        return cls(
            frozenset((row["function"], mutation) for row in survivors for mutation in row["mutations"]),
            frozenset(lines),
        )


@dataclass(frozen=True)
class Plan:
    """What the campaign is asked to do."""

    files: Sequence[str]
    sample: int = 0
    seed: int = 1
    workers: int = 1
    without: str = ""
    accepted: Path = ACCEPTED


def campaign(plan: Plan) -> list[OfFile]:
    """Try each file's mutants."""
    warm()
    return [_try_file(TARGETS[file], plan) for file in plan.files]


def _try_file(target: Target, plan: Plan) -> OfFile:
    began, found = time.monotonic(), OfFile(target.file)
    target = target._replace(tests=tuple(test for test in target.tests if not plan.without or plan.without not in test))
    if not target.tests:
        raise SystemExit(f"{target.file}: no test file is left")
    mutated = mutants.of_file(ROOT, target.file)
    chosen = list(mutated.mutants)
    if plan.sample:
        chosen = random.Random(f"{plan.seed} {target.file}").sample(chosen, min(plan.sample, len(chosen)))
    with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
        seen = see(target, Path(scratch))
        _say(f"{target.file}: {len(seen.seconds)} tests, {sum(seen.seconds.values()):.0f} s; {len(chosen)} mutants")
        outcomes = []
        for trial in trials(target, mutated, seen, chosen, (plan.workers, Path(scratch))):
            outcomes.append(trial)
            if trial.survived:
                _say(f"  survived: line {max(trial.mutant.lines)}, {trial.mutant.function}: {trial.mutant.what}")
            if len(outcomes) % 50 == 0:
                _say(f"  {len(outcomes)} of {len(chosen)}, {time.monotonic() - began:.0f} s")
    found.mutants, found.tests = len(mutated.mutants), len(seen.seconds)
    found.statements, found.branches = seen.statements, seen.branches
    _judge_outcomes(found, outcomes, mutated, Accepted.of(target.file, plan.accepted))
    _judge_coverage(found, seen, Accepted.of(target.file, plan.accepted), complete=not plan.sample)
    found.problems += [f"fails without any damage: {test}" for test in seen.failed]
    found.seconds = round(time.monotonic() - began, 1)
    _say(f"{target.file}: {found.score} %, {found.survivors} survived, {found.not_covered} open, {found.seconds} s")
    return found


def _judge_outcomes(found: OfFile, outcomes: Sequence[Trial], mutated: mutants.Mutated, accepted: Accepted) -> None:
    survivors = [trial.mutant for trial in outcomes if trial.survived]
    named = {(one.function, one.what) for one in survivors}
    existing = {(one.function, one.what) for one in mutated.mutants}
    noticed = {(trial.mutant.function, trial.mutant.what): trial.by for trial in outcomes if not trial.survived}
    found.tried, found.survivors = len(outcomes), len(survivors)
    found.killed = found.tried - found.survivors
    found.timeouts = sum(trial.by == TIMEOUT for trial in outcomes)
    found.accepted = len(named & accepted.survivors)
    found.score = round(100 * found.killed / found.tried, 2) if found.tried else 100.0
    if found.killed * 100 < LEAST_SCORE * found.tried:
        found.problems.append(f"score {found.score} %, under {LEAST_SCORE} %")
    for one in survivors:
        if (one.function, one.what) not in accepted.survivors:
            found.problems.append(f"survived, not listed: line {min(one.lines)}, {one.function}: {one.what}")
    for function, what in sorted(accepted.survivors):
        if (function, what) not in existing:
            found.problems.append(f"listed, but there is no such mutant: {function}: {what}")
        elif (function, what) in noticed:
            found.problems.append(f"listed, but noticed by {noticed[function, what]}: {function}: {what}")


def _judge_coverage(found: OfFile, seen: Seen, accepted: Accepted, *, complete: bool) -> None:
    text = (ROOT / found.file).read_text().splitlines()
    open_at = dict.fromkeys(seen.open_lines, "no test comes here")
    for line, to in seen.open_branches:
        open_at.setdefault(line, f"no test goes from here to {'the end' if to < 0 else f'line {to}'}")
    found.not_covered = len(open_at)
    for line, why in sorted(open_at.items()):
        if text[line - 1].strip() not in accepted.lines:
            found.problems.append(f"line {line}: {why}: {text[line - 1].strip()}")
    if complete:
        unneeded = accepted.lines - {text[line - 1].strip() for line in open_at}
        found.problems += [f"listed as not covered, but it is, or is gone: {line}" for line in sorted(unneeded)]


def changed(base: str) -> list[str]:
    """Return the targets that differ from a git base, committed or not."""
    names = subprocess.run(["git", "diff", "--name-only", base], cwd=ROOT, check=True, capture_output=True, text=True)
    return [file for file in TARGETS if file in names.stdout.split()]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Print what was seen; 0 when everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TARGETS)}; default all")
    parser.add_argument("--changed", metavar="BASE", help="only files that differ from this git base")
    parser.add_argument("--sample", type=int, default=0, help="how many mutants of each file; default all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sabotage", default="", help='"tests-off NAME": leave out the test files with NAME in theirs')
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    if unknown := [file for file in options.files if file not in TARGETS]:
        parser.error(f"not a target: {', '.join(unknown)}")
    kind, _, without = options.sabotage.partition(" ")
    if options.sabotage and (kind != "tests-off" or not without):
        parser.error('the one sabotage is "tests-off NAME"')
    files = changed(options.changed) if options.changed else options.files or list(TARGETS)
    began = time.monotonic()
    found = campaign(Plan(files, options.sample, options.seed, options.workers, without))
    result = {
        "ok": not any(one.problems for one in found), "sabotage": options.sabotage, "seed": options.seed,
        "seconds": round(time.monotonic() - began, 1), "files": [asdict(one) for one in found],
    }  # fmt: skip
    print(json.dumps(result) if options.as_json else _report(result))
    return 0 if result["ok"] else 1


def _report(result: dict[str, Any]) -> str:
    lines = []
    for one in result["files"]:
        lines += [
            f"{one['score']:6.2f} %  {one['file']}: {one['killed']} of {one['tried']} mutants noticed"
            f" ({one['timeouts']} by time), {one['accepted']} survivors accepted; {one['seconds']} s",
            f"          {one['tests']} tests; {one['not_covered']} open in"
            f" {one['statements']} lines and {one['branches']} branches",
        ]
        lines += [f"PROBLEM {one['file']}: {problem}" for problem in one["problems"]]
    return "\n".join([*lines, "everything holds" if result["ok"] else "something does not hold"])


if __name__ == "__main__":
    sys.exit(main())
