"""Gridpost end to end beside a naive peer, on one core each in turn: messages a second, ratios, processor time.

Three servers take the same messages in turn, round by round, in one run: the real `gridpost serve`; the naive peer
(naive_peer.py) with its own storage; and the same peer with Gridpost's storage, which shows how much of the distance is
the storage's. README.md says what is measured and what is not.

    .venv/bin/python bench/naive.py [--quick] [--json]
"""

import argparse
import gc
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import load
import receipts
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
CHECKED = 5  # receipts verified in each round
CLIENT_BUSY = 0.8


def main():
    chosen = _arguments()
    cores = servers.cores()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no server is left behind, held still
    if cores.client is not None:
        os.sched_setaffinity(0, {cores.client})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridpost-bench-", dir=chosen.folder)))
        devices, field = _start(folder, chosen.mv90, cores.server, stack)
        machine = _machine(cores) | {"sync_us": _sync_us(folder)}
        result = {
            "quick": chosen.quick,
            "mv90": chosen.mv90,
            "machine": machine,
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
    parser.add_argument("--folder", type=Path, help="where the databases go; default: the folder for temporary files")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    chosen.seconds = chosen.seconds or (QUICK_S if chosen.quick else ROUND_S)
    return chosen


def _start(folder, mv90, core, stack):
    """Return the devices and, by name, each server with what verifies its receipts; all but none asleep."""
    servers.peer_python()
    devices = workload.make_devices(DEVICES)
    ours = servers.start_ours(folder / "ours", devices, core, mv90)
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
        messages = workload.batch(devices, size, WARM_UP.get(size, FEWEST))
        counts[name] = max(FEWEST, int(_turn(turn, messages, chosen, problems)["rate"] * chosen.seconds))
    found = {name: [] for name in field}
    for number in range(chosen.rounds):
        _say(f"{size} intervals: round {number + 1} of {chosen.rounds}, signing {max(counts.values())} messages")
        messages = workload.batch(devices, size, max(counts.values()))
        for name, turn in field.items():
            found[name].append(_turn(turn, messages[: counts[name]], chosen, problems))
    return _summary(found)


def _turn(turn, messages, chosen, problems):
    """Let one server have its core, send the messages, verify some receipts."""
    server, check = turn
    gc.collect()
    gc.disable()
    server.wake()
    done = load.run(server.address, messages, chosen.connections, server.cpu_s)
    server.sleep()
    gc.enable()
    count = len(done.answers)
    problems += [f"{server.name}: {text}" for text in _problems(done, messages, check)]
    if done.client_cpu_s > CLIENT_BUSY * done.seconds:
        problems.append(f"{server.name}: the client was busy {done.client_cpu_s / done.seconds:.0%} of the round")
    waited = sorted(answer.seconds for _, answer in done.answers) or [0.0]
    return {
        "messages": count,
        "rate": count / done.seconds,
        "values": messages[0].values,
        "cpu_us": done.server_cpu_s / max(1, count) * 1e6,
        "busy": done.server_cpu_s / done.seconds,
        "client_busy": done.client_cpu_s / done.seconds,
        "p50_ms": waited[count // 2] * 1000 if count else 0.0,
        "p99_ms": waited[count * 99 // 100] * 1000 if count else 0.0,
    }


def _problems(done, messages, check):
    if done.error:
        yield done.error
    refused = [answer for _, answer in done.answers if answer.status != 200]
    if refused:
        first = refused[0]
        yield f"{len(refused)} of {len(messages)} answers were not 200, such as {first.status} {first.body[:400]!r}"
        return
    for message, answer in done.answers:
        if message.message_id.encode() not in answer.body:
            yield f"an answer does not name its message {message.message_id}"
            return
    step = max(1, len(done.answers) // CHECKED)
    for message, answer in done.answers[::step][:CHECKED]:
        reason = check(message, answer.body)
        if reason:
            yield f"receipt of {message.message_id}: {reason}"


def _summary(found):
    summary = {}
    for name, rounds in found.items():
        rates = [one["rate"] for one in rounds]
        summary[name] = {
            "messages_per_s": statistics.median(rates),
            "messages_per_s_min": min(rates),
            "messages_per_s_max": max(rates),
            "values_per_s": statistics.median(rates) * rounds[0]["values"],
            "cpu_us": statistics.median(one["cpu_us"] for one in rounds),
            "busy": statistics.median(one["busy"] for one in rounds),
            "p50_ms": statistics.median(one["p50_ms"] for one in rounds),
            "p99_ms": statistics.median(one["p99_ms"] for one in rounds),
            "client_busy": max(one["client_busy"] for one in rounds),
            "rounds": rounds,
        }
    for name in (NAIVE, MIXED):
        pairs = [ours["rate"] / other["rate"] for ours, other in zip(found[OURS], found[name], strict=True)]
        median = summary[OURS]["messages_per_s"] / summary[name]["messages_per_s"]
        summary[name] |= {"ratio": median, "ratio_min": min(pairs), "ratio_max": max(pairs)}
    return summary


def _ok(result):
    sizes = result["sizes"]
    reached = [sizes[str(size)][NAIVE]["ratio"] >= wanted for size, wanted in WANTED.items() if str(size) in sizes]
    return not result["problems"] and all(reached) and len(reached) == len(WANTED)


def _machine(cores):
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "pinned": "no" if cores.client is None else f"servers to core {cores.server}, client to {cores.client}",
    }


def _sync_us(folder):
    """What the disk takes to keep 4 KiB: a peer that commits each message alone waits so long for each."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _print(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    machine = result["machine"]
    print(f"Python {machine['python']}, {machine['cores']} cores; pinned: {machine['pinned']}; "
          f"billing files {'on' if result['mv90'] else 'off'}; "
          f"{result['connections']} connections; a sync takes {machine['sync_us']:,.0f} us")  # fmt: skip
    head = ("intervals x 4", "server", "messages/s", "min - max", "values/s", "CPU us", "busy", "p50 ms", "p99 ms",
            "gridpost is", "min - max")  # fmt: skip
    rows = [head]
    for size, servers_ in result["sizes"].items():
        for name, one in servers_.items():
            rows.append((size, name, *_cells(one)))
            size = ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) if place < 2 else cell.rjust(width)
                        for place, (cell, width) in enumerate(zip(row, widths, strict=True))))  # fmt: skip
    for problem in result["problems"]:
        print(f"problem: {problem}")
    wanted = ", ".join(f"{size}: {ratio}x" for size, ratio in WANTED.items())
    print(f"ok: {result['ok']}   (wanted over naive: {wanted})")


def _cells(one):
    rate, low, high = (f"{one[f'messages_per_s{suffix}']:,.1f}" for suffix in ("", "_min", "_max"))
    times = (f"{one['cpu_us']:,.0f}", f"{one['busy']:.0%}", f"{one['p50_ms']:,.1f}", f"{one['p99_ms']:,.1f}")
    ratio = (f"{one['ratio']:.1f}x", f"{one['ratio_min']:.1f} - {one['ratio_max']:.1f}") if "ratio" in one else ("", "")
    return (rate, f"{low} - {high}", f"{one['values_per_s']:,.0f}", *times, *ratio)


if __name__ == "__main__":
    sys.exit(main())
