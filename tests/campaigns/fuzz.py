"""Anything in, nothing false out: mutated genuine messages by the million, and coverage-guided fuzzing of every parser.

    tests/campaigns/fuzz.py [--messages 1000000] [--seconds-per-target 60] [--targets a,b] [--processes 2] [--seed 1]
                            [--keep DIR] [--sabotage verify-off|digest-off|lax-lane|escape] [--json]

1. Mutated messages (tests/campaigns/mutations.py) go through `exchange.read` and `exchange.open_`, as the bus calls
   them, and beside that through the lxml path `envelope.shape`. Found is: a message taken at other values than its
   genuine one's, by either; two different outcomes; anything raised but a PeerFault; a second of processor time.
2. Each target of fuzz/targets.py runs under atheris, if that is installed (`pip install -e ".[fuzz]"`); else the result
   says so and the targets get their corpus and blind changes of it. Found is: an error that is not the target's own
   refusal, a wrong result, 2 s for one input, memory beyond 1 GB.

`--keep DIR` keeps each finding's input, and new corpus files in DIR/corpus. A finding of part 1 is named by its number:
with the seed it is the same message again. Exit status: 0 nothing found, 1 something.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent))

import fuzz_sabotage
import genuine_samples
import mutations
from genuine_samples import Sample

from gridpost import envelope, exchange
from gridpost.errors import PeerFault
from gridpost.model import Opened

FUZZ = Path(__file__).parent.parent.parent / "fuzz"
CHUNK = 2000
OURS = 13  # samples that `seal` made stand first
MOST_CPU_S = 1.0
MOST_FINDINGS = 50
MEMORY_MB = 1024
HUNG_S = 1800  # wall clock, for what never ends; seconds of processor time are fuzz/targets.py's business
PROGRESS_S = 15


class Finding(NamedTuple):
    """What was found, where, and the input."""

    what: str
    where: str
    raw: bytes = b""


@dataclass
class Counts:
    """What a share of the messages came to; shares add up."""

    messages: int = 0
    accepted: int = 0
    accepted_at_other_values: int = 0
    outcomes_differ: int = 0
    codes_differ: int = 0
    escaped: int = 0
    slowest_cpu_s: float = 0.0
    memory_mb: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        for name in ("messages", "accepted", "accepted_at_other_values", "outcomes_differ", "codes_differ", "escaped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_cpu_s = max(self.slowest_cpu_s, other.slowest_cpu_s)
        self.memory_mb = max(self.memory_mb, other.memory_mb)
        self.codes += other.codes
        self.changes += other.changes
        self.findings += other.findings

    def found(self, counter: str, finding: Finding) -> None:
        setattr(self, counter, getattr(self, counter) + 1)
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)


# --- mutated messages ------------------------------------------------------------------------------------------------


@cache
def expected() -> Sequence[Opened]:
    """What each genuine message says, known before it was written; made once, before anything is broken."""
    return [_expected(one) for one in genuine_samples.samples()]


def _expected(sample: Sample) -> Opened:
    opened = exchange.open_(envelope.shape(sample.raw), sample.enrolment)
    if sample.message is not None and opened.message != sample.message:
        raise AssertionError(f"{sample.name}: not even the genuine message comes out as it was signed")
    if sample.value is not None and opened.message.readings.blocks[0].values[0] != sample.value:
        raise AssertionError(f"{sample.name}: expected {sample.value}")
    return replace(opened, raw=b"")


def mutant(seed: int, number: int) -> tuple[int, bytes, str]:
    """Return message `number` of a seed: which sample it was, its bytes, what was done."""
    chance = random.Random(seed << 40 | number)
    samples = genuine_samples.samples()
    # Half are of our own devices' layout, which has a way of reading of its own.
    index = chance.randrange(OURS if chance.random() < 0.5 else len(samples))
    raws = _raws()
    return index, *mutations.mutated(chance, raws[index], raws, genuine_samples.people().neighbour)


@cache
def _raws() -> Sequence[bytes]:
    return [one.raw for one in genuine_samples.samples()]


def share(seed: int, first: int, last: int) -> Counts:
    """Judge the messages from `first` to before `last`."""
    counts = Counts()
    for number in range(first, last):
        index, raw, done = mutant(seed, number)
        _judge(counts, index, raw, f"message {number}, seed {seed}: {genuine_samples.samples()[index].name}, {done}")
        counts.changes.update(done.split("+"))
    counts.messages = last - first
    counts.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return counts


def _judge(counts: Counts, index: int, raw: bytes, where: str) -> None:
    began = time.thread_time()
    mine, reference = _outcome(raw, index, exchange.read), _outcome(raw, index, envelope.shape)
    cpu_s = time.thread_time() - began
    counts.slowest_cpu_s = max(counts.slowest_cpu_s, cpu_s)
    if cpu_s > MOST_CPU_S:
        counts.found("escaped", Finding(f"{cpu_s:.1f} s of processor time", where, raw))
    for one in (mine, reference):
        if isinstance(one, Opened) and one != expected()[index]:
            counts.found("accepted_at_other_values", Finding(f"taken as {one.message!r}"[:500], where, raw))
            break
        if not isinstance(one, Opened | PeerFault):
            counts.found("escaped", Finding(f"{type(one).__name__}: {one}"[:500], where, raw))
            break
    if isinstance(mine, Opened):
        counts.accepted += 1
    else:
        counts.codes[getattr(mine, "code", type(mine).__name__)] += 1
    _compare(counts, mine, reference, Finding("", where, raw))


def _compare(counts: Counts, mine: Any, reference: Any, at: Finding) -> None:
    if isinstance(mine, PeerFault) and isinstance(reference, PeerFault):
        counts.codes_differ += mine.code != reference.code
    elif mine != reference:
        shown = [one.code if isinstance(one, PeerFault) else type(one).__name__ for one in (mine, reference)]
        counts.found("outcomes_differ", at._replace(what=f"read says {shown[0]}, the reference {shown[1]}"))


def _outcome(raw: bytes, index: int, read: Any) -> Any:
    """What comes of a message; any error that is not a refusal is handed back to be told."""
    try:
        opened = exchange.open_(read(raw), genuine_samples.samples()[index].enrolment)
    except Exception as error:
        return error
    return replace(opened, raw=b"") if opened.raw == raw else AssertionError("the evidence is not what was sent")


def _begin(sabotage: str) -> None:
    expected()
    fuzz_sabotage.apply(sabotage)


def mutate(messages: int, seed: int, processes: int, sabotage: str = "") -> Counts:
    """Judge so many mutated messages, in processes of their own."""
    counts, shares = Counts(), _shares(messages)
    began = told = time.monotonic()
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (sabotage,)) as pool:
        running: dict[Future[Counts], int] = {}
        for first, last in shares:
            running[pool.submit(share, seed, first, last)] = first
            if len(running) < 2 * processes and last < messages:
                continue
            _collect(running, counts, seed)
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                _say(f"{counts.messages} of {messages} messages, {counts.messages / (told - began):.0f}/s, "
                     f"{counts.accepted} taken, {len(counts.findings)} findings")  # fmt: skip
        while running:
            _collect(running, counts, seed)
    return counts


def _shares(messages: int) -> Iterator[tuple[int, int]]:
    for first in range(0, messages, CHUNK):
        yield first, min(messages, first + CHUNK)


def _collect(running: dict[Future[Counts], int], counts: Counts, seed: int) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        first = running.pop(future)
        try:
            counts.add(future.result())
        except BrokenProcessPool:
            counts.found("escaped", Finding("a process died", f"messages from {first}, seed {seed}"))
            running.clear()
            return


# --- coverage-guided -------------------------------------------------------------------------------------------------


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


@dataclass
class TargetRun:
    """One target's run."""

    name: str
    executions: int = 0
    corpus: int = 0
    coverage: int = 0
    finding: Finding | None = None


class Fuzzing(NamedTuple):
    """How the targets are run."""

    seconds: int
    seed: int
    sabotage: str
    folder: Path


def guided(name: str, how: Fuzzing) -> TargetRun:
    """Run one target under atheris; new corpus files come into `how.folder`/corpus/NAME."""
    seeds_dir, found_dir = how.folder / "seeds" / name, how.folder / "corpus" / name
    _write_seeds(name, seeds_dir)
    found_dir.mkdir(parents=True, exist_ok=True)
    kept = FUZZ / "corpus" / name
    folders = [found_dir, seeds_dir, *([kept] if kept.is_dir() else [])]
    command = [
        sys.executable, FUZZ / "run_target.py", name, f"-max_total_time={how.seconds}", f"-seed={how.seed or 1}",
        f"-timeout={HUNG_S}", f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={how.folder}/{name}-", "-max_len=65536",
        "-print_final_stats=1", *folders,
    ]  # fmt: skip
    environment = os.environ | {"GRIDPOST_FUZZ_SABOTAGE": how.sabotage}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    run = _read_log(name, done.stdout + done.stderr)
    run.corpus = len(list(found_dir.iterdir()))
    if done.returncode:
        inputs = sorted(how.folder.glob(f"{name}-*"))
        raw = inputs[0].read_bytes() if inputs else b""
        run.finding = Finding(_what(done.stdout + done.stderr), f"target {name}, seed {how.seed}", raw)
    return run


def _write_seeds(name: str, folder: Path) -> None:
    import seeds

    folder.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(seeds.files(name)):
        (folder / f"seed-{number}").write_bytes(raw)


def _read_log(name: str, log: str) -> TargetRun:
    run = TargetRun(name)
    for line in log.splitlines():
        words = line.split()
        if line.startswith("stat::number_of_executed_units:"):
            run.executions = int(words[-1])
        if "cov:" in words:
            run.coverage = int(words[words.index("cov:") + 1])
    return run


def _what(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(("#", "INFO", "stat::"))]
    at = next((number for number, line in enumerate(lines) if "Uncaught Python exception" in line), len(lines) - 6)
    return "\n".join(lines[max(0, at) : at + 30])[:3000]


def blind(name: str, how: Fuzzing) -> TargetRun:
    """Without atheris: the corpus as it is, and changes of it without any guide, until the time is up."""
    import seeds
    import targets

    kept = FUZZ / "corpus" / name
    corpus = [*seeds.files(name), *(file.read_bytes() for file in (sorted(kept.iterdir()) if kept.is_dir() else ()))]
    run, chance, end = (
        TargetRun(name, corpus=len(corpus)),
        random.Random(f"{how.seed}-{name}"),
        time.monotonic() + how.seconds,
    )
    for raw in _variants(corpus, chance):
        if time.monotonic() > end and run.executions >= len(corpus):
            break
        run.executions += 1
        try:
            targets.outcome(targets.TARGETS[name], raw)
        except Exception as error:
            run.finding = Finding(f"{type(error).__name__}: {error}"[:500], f"target {name}, seed {how.seed}", raw)
            break
    return run


def _variants(corpus: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    yield from corpus
    while True:
        raw = chance.choice(corpus)
        for _ in range(chance.randint(1, 3)):
            with contextlib.suppress(IndexError, ValueError):  # nothing in it to change that way
                raw = chance.choice((*mutations.BYTES, *mutations.TEXT))(chance, raw) or raw
        yield raw


def all_targets() -> list[str]:
    import targets

    return list(targets.TARGETS)


# --- the campaign ----------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def campaign(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run both parts and return the result."""
    began, counts, runs = time.monotonic(), Counts(), []
    if asked.messages:
        counts = mutate(asked.messages, asked.seed, asked.processes, asked.sabotage)
    how = Fuzzing(asked.seconds_per_target, asked.seed, asked.sabotage, folder)
    if asked.seconds_per_target:
        if not has_atheris():
            fuzz_sabotage.apply(asked.sabotage)
        runs = _run_targets(asked.targets or all_targets(), how, asked.processes)
    findings = [*counts.findings, *(run.finding for run in runs if run.finding)]
    for number, finding in enumerate(findings):
        (folder / f"finding-{number}").write_bytes(finding.raw)
    return {
        "ok": not findings, "messages": counts.messages, "accepted": counts.accepted,
        "accepted_at_other_values": counts.accepted_at_other_values, "outcomes_differ": counts.outcomes_differ,
        "codes_differ": counts.codes_differ, "escaped": counts.escaped,
        "slowest_cpu_s": round(counts.slowest_cpu_s, 3), "memory_mb": counts.memory_mb,
        "codes": dict(counts.codes.most_common()), "changes": dict(counts.changes.most_common()),
        "guide": "coverage (atheris)" if has_atheris() else "none: atheris is not installed",
        "seconds_per_target": asked.seconds_per_target, "seed": asked.seed,
        "targets": {run.name: {"executions": run.executions, "new_corpus": run.corpus, "coverage": run.coverage}
                    for run in runs},
        "findings": [{"what": one.what, "where": one.where, "size": len(one.raw)} for one in findings],
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _run_targets(names: Sequence[str], how: Fuzzing, processes: int) -> list[TargetRun]:
    """Guided runs are processes of their own, so threads may wait for them; blind ones take turns."""
    from concurrent.futures import ThreadPoolExecutor

    runs, one = [], guided if has_atheris() else blind
    with ThreadPoolExecutor(processes if has_atheris() else 1) as pool:
        for run in pool.map(lambda name: one(name, how), names):
            runs.append(run)
            found = f", FOUND {run.finding.what.splitlines()[:2]}" if run.finding else ""
            _say(f"{run.name}: {run.executions} executions, coverage {run.coverage}{found}")
    return runs


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="mutated messages; 0: none")
    parser.add_argument("--seconds-per-target", type=int, default=60, help="coverage-guided part; 0: none")
    parser.add_argument("--targets", type=lambda text: text.split(","), help="some of fuzz/targets.py; default all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder that keeps findings and new corpus files")
    parser.add_argument("--sabotage", choices=sorted(fuzz_sabotage.SABOTAGES), default="")
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args(given)


def main() -> int:
    """Print what was seen; 0 when nothing was found."""
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = campaign(asked, folder)
    print(json.dumps(result) if asked.as_json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
