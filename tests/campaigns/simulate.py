"""A week with two devices, a faulty network, faulty disks and a slow reader, two thousand times over.

    tests/campaigns/simulate.py [--seed 1] [--seeds 2000] [--processes 2] [--sabotage NAME] [--only] [--json]

A seed is a history on a fake clock: the product's own agent, spool, reception, store, writer, readers and delivery run
in one thread; clock, chance, network, meter and disk are not real. Requests and answers are lost, doubled, late, cut,
out of order, changed and forged; disks are full, fail at commits; processes die between any two steps; devices' clocks
are stepped; the reader is slow and its way out closed at times. Then all troubles end, and it must hold:

- what was acknowledged is stored, once; a repeat got the same receipt, byte for byte;
- no reading comes from a byte its device did not sign, and none outside the window;
- each value stored is a difference of the meter's stands, and they add up to what the meter counted;
- every entry went out: every file once rendered is delivered, and the newest of a day holds the day's values;
- each receipt carries the root over all entries before it;
- nobody gets a device to set a message of its own aside.

The same seed gives the same history: its hash is printed. `--only` runs one seed and shows how it ended. With
`--sabotage` it stops at the first seed that shows the damage, which is within `--seed 1 --seeds 12` for each of them.
A seed whose history raises counts as a violation, and fewer seeds than asked for are never "ok". Exit status: 0
everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from sim_sabotage import SABOTAGES, sabotaged
from sim_setting import Setting
from sim_world import Found, history

MEMORY = Path("/dev/shm")


def folder() -> tempfile.TemporaryDirectory[str]:
    """In memory where there is such a place: a real disk's syncs are not what is looked at here."""
    return tempfile.TemporaryDirectory(prefix="simulate-", dir=MEMORY if MEMORY.is_dir() else None)


@functools.cache
def _setting() -> tuple[Any, Setting]:
    kept = folder()
    made = kept, Setting(Path(kept.name))
    gc.freeze()  # what is there now stays: not worth looking through again in every history
    gc.set_threshold(50_000, 50, 100)  # and what a history leaves is gone with it: a tenth of its time
    return made


def one(seed: int, sabotage: str = "") -> Found:
    """Run one seed; in a process that runs many, the setting is made once.

    What the history raised is a problem of that seed: let out of here it could end the caller's loop over the seeds
    without a word (`StopIteration` did), and with it all seeds that were still to come.
    """
    setting, began = _setting()[1], time.process_time_ns()
    try:
        with sabotaged(sabotage):
            found = history(seed, setting)
    except Exception as problem:
        where = traceback.format_exception(problem)[-2:]
        found = Found(seed, f"raised {type(problem).__name__}", [f"raised: {''.join(where)}"], Counter())
    found.cpu_ms = (time.process_time_ns() - began) // 1_000_000
    if not found.problems:
        found.last.clear()
    return found


def campaign(seeds: range, processes: int, sabotage: str = "") -> dict[str, Any]:
    began = time.monotonic()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    digest = hashlib.sha256()
    done = cpu_ms = 0
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(functools.partial(one, sabotage=sabotage), seeds):
            done, cpu_ms = done + 1, cpu_ms + found.cpu_ms
            counts += found.counts
            digest.update(found.digest.encode())
            problems += [f"seed {found.seed}: {text}" for text in found.problems]
            if done % 50 == 0:
                print(f"{done} of {len(seeds)} seeds, {len(problems)} problems", file=sys.stderr)
            if sabotage and problems:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return {
        "ok": not problems and done == len(seeds), "seeds": done, "seeds_asked": len(seeds),
        "first_seed": seeds.start, "violations": len(problems), "sabotage": sabotage,
        "seconds": round(time.monotonic() - began, 1), "cpu_ms_a_seed": cpu_ms // max(1, done),
        "histories_sha256": digest.hexdigest(), "happened": dict(sorted(counts.items())), "problems": problems[:50],
    }  # fmt: skip


def show(seed: int, sabotage: str) -> dict[str, Any]:
    """Run one seed and print how it went, with its last steps when something does not hold."""
    found = one(seed, sabotage)
    for line in found.last:
        print(line, file=sys.stderr)
    return {"ok": not found.problems, "seed": seed, "history_sha256": found.digest, "problems": found.problems,
            "happened": dict(sorted(found.counts.items()))}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="two devices, a bus and everything that can go wrong, simulated")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", action="store_true", help="run this one seed and show its last steps")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="", help="damage that must be found")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    if options.only:
        result = show(options.seed, options.sabotage)
    else:
        result = campaign(range(options.seed, options.seed + options.seeds), options.processes, options.sabotage)
    print(json.dumps(result) if options.as_json else json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
