"""Gridpost end to end beside a naive peer, on one core each in turn: messages a second, ratios, processor time.

Three servers take the same messages in turn, round by round, in one run: the real `gridpost serve`; the naive peer
(naive_peer.py) with its own storage; and the same peer with Gridpost's storage, which shows how much of the distance is
the storage's. README.md says what is measured and what is not.

    .venv/bin/python bench/naive.py [--quick] [--json]
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import machine
import receipts
import rounds
import servers
import workload

SIZES = (1, 96, 3360)
WANTED = {1: 5, 96: 10}  # Gridpost's messages a second over the naive peer's
OURS, NAIVE, MIXED = "gridpost", "naive", "naive, our storage"
CONNECTIONS = 64  # meters that push at once
DEVICES = 16
ROUNDS, ROUND_S = 5, 4.0
QUICK_ROUNDS, QUICK_S = 2, 1.5
WARM_UP = {1: 200, 96: 60, 3360: 4}
FEWEST = 4
PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'  # no signature covers it; it is enough to make a layout another


def main():
    chosen = _arguments()
    cores = servers.cores()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no server is left behind, held still
    if cores.client is not None:
        os.sched_setaffinity(0, {cores.client})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridpost-bench-", dir=chosen.folder)))
        devices, field = _start(folder, servers.Bus(mv90=chosen.mv90, rsa=chosen.rsa), cores.server, stack)
        described = machine.describe(cores, folder)
        result = {
            "quick": chosen.quick,
            "mv90": chosen.mv90,
            "rsa_receipts": chosen.rsa,
            "other_layout": chosen.other_layout,
            "machine": described,
            "connections": chosen.connections,
            "sizes": {},
            "problems": [],
        }
        for size in chosen.sizes:
            result["sizes"][str(size)] = _measure(size, devices, field, chosen, result["problems"])
    result["ok"] = _ok(result)
    _print(result, chosen.json)
    return 0 if result["ok"] else 1


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short rounds and few: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES),
                        help="intervals a message (default 1,96,3360)")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="rounds a size")
    parser.add_argument("--seconds", type=float, help="about how long a round is")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=f"open at once (default {CONNECTIONS})")
    parser.add_argument("--no-mv90", dest="mv90", action="store_false",
                        help="switch Gridpost's billing files off, which the peer does not write")  # fmt: skip
    parser.add_argument("--rsa-receipts", dest="rsa", action="store_true",
                        help="give Gridpost an RSA-3072 key to answer these RSA-signed messages")  # fmt: skip
    parser.add_argument("--other-layout", action="store_true",
                        help="as another maker's device might write: Gridpost reads by its reference")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where the databases go; default: the folder for temporary files")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    chosen.seconds = chosen.seconds or (QUICK_S if chosen.quick else ROUND_S)
    return chosen


def _start(folder, bus, core, stack):
    """Return the devices and, by name, each server with what verifies its receipts; all but none asleep."""
    servers.peer_python()
    devices = workload.make_devices(DEVICES)
    ours = servers.start_ours(folder / "ours", devices, core, bus)
    stack.callback(ours.stop)
    field = {OURS: (ours, receipts.ours(folder / "ours" / "ca.pem"))}
    for name, storage in ((NAIVE, "rows"), (MIXED, "gridpost")):
        peer = servers.start_peer(name, storage, folder / storage, devices, core)
        stack.callback(peer.stop)
        field[name] = (peer, receipts.peers(folder / storage / "bus.pem"))
    for server, _ in field.values():
        server.sleep()
    return devices, field


def _measure(size, devices, field, chosen, problems):
    counts = {}
    for name, turn in field.items():
        _say(f"{size} intervals: warming {name}")
        messages = _batch(devices, size, WARM_UP.get(size, FEWEST), chosen)
        warmed = rounds.turn(*turn, messages, chosen.connections, problems)
        counts[name] = max(FEWEST, int(warmed["rate"] * chosen.seconds))
    found = {name: [] for name in field}
    for number in range(chosen.rounds):
        _say(f"{size} intervals: round {number + 1} of {chosen.rounds}, signing {max(counts.values())} messages")
        messages = _batch(devices, size, max(counts.values()), chosen)
        for name, turn in field.items():
            found[name].append(rounds.turn(*turn, messages[: counts[name]], chosen.connections, problems))
    return _summary(found)


def _batch(devices, size, count, chosen):
    messages = workload.batch(devices, size, count)
    return [replace(one, raw=PROLOG + one.raw) for one in messages] if chosen.other_layout else messages


def _summary(found):
    summary = {name: rounds.summary(done) for name, done in found.items()}
    for name in (NAIVE, MIXED):
        summary[name] |= rounds.ratios(found[OURS], found[name])
    return summary


def _ok(result):
    sizes = result["sizes"]
    reached = [sizes[str(size)][NAIVE]["ratio"] >= wanted for size, wanted in WANTED.items() if str(size) in sizes]
    return not result["problems"] and all(reached) and len(reached) == len(WANTED)


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _print(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    print(f"{machine.line(result['machine'])}; billing files {'on' if result['mv90'] else 'off'}; "
          f"{'another' if result['other_layout'] else 'our'} layout; "
          f"{'RSA-3072' if result['rsa_receipts'] else 'P-256'} receipts; "
          f"{result['connections']} connections")  # fmt: skip
    rows = [rounds.HEAD]
    for size, servers_ in result["sizes"].items():
        for name, one in servers_.items():
            rows.append((size, name, *rounds.cells(one)))
            size = ""
    rounds.print_table(rows)
    for problem in result["problems"]:
        print(f"problem: {problem}")
    wanted = ", ".join(f"{size}: {ratio}x" for size, ratio in WANTED.items())
    print(f"ok: {result['ok']}   (wanted over naive: {wanted})")


if __name__ == "__main__":
    sys.exit(main())
