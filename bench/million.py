"""A million meters: open loop, each signed push on a new TLS connection, against a store that knows five million ids.

    .venv/bin/python bench/million.py --work FOLDER [--json]

FOLDER keeps the store for the next run (about 3 GB; making it takes some minutes). Exits 0 when every aim holds.
README.md says what is real and what is not.
"""

import argparse
import json
import random
import signal
import sys
from pathlib import Path

import machine
import million_store
import open_loop
import receipts
import rounds
import servers
import workload
from equal_work import say

IEDS, KNOWN, RATE, MINUTES = 1_000_000, 5_000_000, 278.0, 10.0
P99_MS, GROWTH = 250.0, 1.10
FROM_MINUTE = 2  # memory is compared from here to the end
STEP, STEP_S, MOST_STEPS = 1.15, 60.0, 12  # how the highest rate is looked for
CHECKED = 50  # receipts verified
WARM_UP = 50


def main(arguments=None):
    chosen = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    workload.seed(chosen.seed)
    folder = million_store.prepared(chosen.work, chosen.ieds, chosen.known)
    described = machine.describe(servers.Cores(None, None), folder)
    result = {"seed": chosen.seed, "ieds": chosen.ieds, "known": chosen.known, "machine": described}
    million_store.read_through(folder)
    server = servers.serve_ours(folder / "gridpost.toml", None, servers.Bus(https=True))
    try:
        result |= measure(server, folder, chosen)
    finally:
        server.stop()
    result["aims"] = aims(result, chosen)
    result["ok"] = all(one["holds"] for one in result["aims"])
    report(result, chosen.json)
    return 0 if result["ok"] else 1


def parse(arguments):
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the ids sent and of which IEDs send (default 1)")
    parser.add_argument("--work", type=Path, required=True, help="the folder that keeps the store")
    parser.add_argument("--ieds", type=_count, default=IEDS, help=f"enrolled (default {IEDS})")
    parser.add_argument("--known", type=_count, default=KNOWN, help=f"ids on file (default {KNOWN})")
    parser.add_argument("--rate", type=float, default=RATE, help=f"pushes a second (default {RATE:g})")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"(default {MINUTES:g})")
    parser.add_argument("--no-highest", dest="highest", action="store_false", help="do not look for the highest rate")
    parser.add_argument("--step-seconds", type=float, default=STEP_S, help=f"at each rate tried (default {STEP_S:g})")
    parser.add_argument("--prepare", action="store_true", help="only make the store")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    if chosen.prepare:
        million_store.prepared(chosen.work, chosen.ieds, chosen.known)
        sys.exit(0)
    return chosen


def _count(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def measure(server, folder, chosen):
    """Return the ten minutes, and the highest rate that was held."""
    source = random.Random(chosen.seed)
    wanted = min(chosen.ieds, int(chosen.rate * chosen.minutes * 60) + WARM_UP)
    say(f"taking {wanted} IEDs' certificates")
    devices = _devices(folder, source.sample(range(chosen.ieds), wanted))
    open_loop.run(server.tls_address, devices[-WARM_UP:], WARM_UP, 1.0, server.memory_bytes)
    say(f"{chosen.minutes:g} minutes at {chosen.rate:g} a second")
    cpu = server.cpu_s()
    load = open_loop.run(server.tls_address, devices, chosen.rate, chosen.minutes * 60, server.memory_bytes)
    steady = open_loop.figures(load, chosen.rate)
    steady["server_busy"] = (server.cpu_s() - cpu) / load.seconds
    steady["memory_mb"] = {second: octets >> 20 for second, octets in load.memory.items() if second % 30 == 0}
    steady["growth"] = growth(load.memory, chosen.minutes)
    steady["wrong_receipts"] = _wrong(load, folder)
    highest = _highest(server, devices, chosen) if chosen.highest else {}
    return {"steady": steady, **highest}


def _devices(folder, numbers):
    signers = million_store.signers(folder, numbers)
    start = workload.START_UTC
    return [workload.Device(million_store.serial_of(number), None, million_store.channels_of(number), signers[number],
                            start) for number in numbers]  # fmt: skip


def _wrong(load, folder):
    """What is wrong with some of the receipts, verified as a device does."""
    check = receipts.genuine(folder / "ca.pem")
    taken = [one for one in load.outcomes if one.status == 200]
    step = max(1, len(taken) // CHECKED)
    reasons = [check(one.message, one.body) for one in taken[::step][:CHECKED]]
    return [reason for reason in reasons if reason]


def growth(memory, minutes):
    """Return memory at the end over memory at minute 2 (at a fifth, where the run is shorter than that)."""
    last = max(memory)
    first = min(memory, key=lambda second: abs(second - min(FROM_MINUTE, minutes / 5) * 60))
    return memory[last] / memory[first]


def _highest(server, devices, chosen):
    """Raise the rate step by step until it is not held."""
    tried, rate, held = [], chosen.rate, chosen.rate
    for _ in range(MOST_STEPS):
        rate *= STEP
        say(f"{chosen.step_seconds:g} s at {rate:.0f} a second")
        load = open_loop.run(server.tls_address, devices, rate, chosen.step_seconds, server.memory_bytes)
        tried.append(open_loop.figures(load, rate))
        if tried[-1]["failed"] or tried[-1]["p99_ms"] > P99_MS:
            break
        held = rate
    return {"highest_per_s": held, "tried": tried}


def aims(result, chosen):
    """Return the issue's aims, each with its figure and whether it holds."""
    steady = result["steady"]
    expected = int(chosen.rate * chosen.minutes * 60)
    rows = (
        ("failed", steady["failed"], 0, steady["failed"] == 0),
        ("taken", steady["taken"], expected, steady["taken"] == expected),
        ("wrong receipts", len(steady["wrong_receipts"]), 0, not steady["wrong_receipts"]),
        ("p99 ms", steady["p99_ms"], P99_MS, steady["p99_ms"] <= P99_MS),
        ("memory, end over minute 2", steady["growth"], GROWTH, steady["growth"] <= GROWTH),
        ("IEDs enrolled", result["ieds"], IEDS, result["ieds"] >= IEDS),
        ("ids known", result["known"], KNOWN, result["known"] >= KNOWN),
        ("pushes a second", chosen.rate, RATE, chosen.rate >= RATE),
        ("minutes", chosen.minutes, MINUTES, chosen.minutes >= MINUTES),
    )
    return [dict(zip(("aim", "figure", "wanted", "holds"), row, strict=True)) for row in rows]


def report(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    print(f"{machine.line(result['machine'])}; {result['ieds']:,} IEDs, {result['known']:,} known ids")
    head = ("pushes/s", "sent", "failed", "p50 ms", "p99 ms", "p99.9 ms", "longest", "client busy", "late starts")
    rows = [head]
    for one in (result["steady"], *result.get("tried", ())):
        times = (f"{one[name]:,.1f}" for name in ("p50_ms", "p99_ms", "p99.9_ms", "longest_ms"))
        counts = (f"{one['rate']:,.0f}", f"{one['sent']:,}", str(one["failed"]))
        rows.append((*counts, *times, f"{one['client_busy']:.0%}", str(one["late_starts"])))
    rounds.print_table(rows)
    print(f"memory, MiB by second: {result['steady']['memory_mb']}")
    print(f"highest rate held: {result.get('highest_per_s', 0):,.0f} a second")
    for one in result["aims"]:
        print(
            f"{'holds ' if one['holds'] else 'missed'}  {one['aim']}: {one['figure']:,.2f} (wanted {one['wanted']:,g})"
        )
    print(f"ok: {result['ok']}")


if __name__ == "__main__":
    sys.exit(main())
