"""Gridpost beside servers in Java, C and Python that do equal work; two processes beside one; a TLS handshake a push.

    .venv/bin/python bench/peers.py [--quick] [--json] [--only peers,processes,tls]

Exits 0 when every aim holds, 1 when one does not or an answer was wrong, 2 when a tool is missing: it says which.
README.md says what each server does and what the figures are.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import equal_work
import handshakes
import machine
import peer_builds
import rounds
import servers
import two_processes
import workload

SIZES, ROUNDS, ROUND_S, CONNECTIONS = (1, 96), 5, 4.0, 64
WARM_S, WARM_JDK_S = 2.0, 12.0
QUICK = {"rounds": 2, "seconds": 1.5, "warm": 0.5, "warm_jdk": 5.0}
SECTIONS = {"peers": equal_work, "processes": two_processes, "tls": handshakes}


def main(arguments=None):
    chosen = parse(arguments)
    lacking = missing(chosen)
    if lacking:
        print("\n".join(f"missing: {one}" for one in lacking), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no server is left behind, held still
    workload.seed(chosen.seed)
    cores = servers.cores()
    if cores.client is not None:
        os.sched_setaffinity(0, {cores.client})
    result = {
        "seed": chosen.seed,
        "quick": chosen.quick,
        "connections": chosen.connections,
        "layout": chosen.layout,
        "problems": [],
    }
    with tempfile.TemporaryDirectory(prefix="gridpost-bench-", dir=chosen.folder) as folder:
        result["machine"] = machine.describe(cores, Path(folder)) | peer_builds.versions(_peers(chosen))
        for name in chosen.only:
            with ExitStack() as stack:
                measure = SECTIONS[name].measure
                result[name] = measure(Path(folder), chosen, cores.server, stack, result["problems"])
    result["aims"] = aims(result)
    result["ok"] = is_ok(result)
    report(result, chosen.json)
    return 0 if result["ok"] else 1


def parse(arguments):
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the values and ids sent (default 1)")
    parser.add_argument("--quick", action="store_true", help="short rounds and few: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", type=_several(SECTIONS), default=list(SECTIONS), help="sections (default all)")
    parser.add_argument("--peers", type=_several(equal_work.PEERS), default=list(equal_work.PEERS),
                        help="of section peers (default jdk,gsoap,naive)")  # fmt: skip
    parser.add_argument("--sizes", type=_sizes, default=list(SIZES), help="intervals a message (default 1,96)")
    parser.add_argument("--rounds", type=int, help=f"rounds a size (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"about how long a round is (default {ROUND_S:g})")
    parser.add_argument("--warm", type=float, help=f"seconds of warming up a server (default {WARM_S:g})")
    parser.add_argument("--warm-jdk", type=float, help=f"... the JDK's (default {WARM_JDK_S:g})")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=f"open at once (default {CONNECTIONS})")
    parser.add_argument("--layout", choices=("own", "foreign"), default="own",
                        help="of section peers: own is what Gridpost reads the short way (default)")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where the databases go; default: the folder for temporary files")
    chosen = parser.parse_args(arguments)
    full = {"rounds": ROUNDS, "seconds": ROUND_S, "warm": WARM_S, "warm_jdk": WARM_JDK_S}
    for name, value in (QUICK if chosen.quick else full).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    return chosen


def _several(known):
    def parse_names(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return names

    return parse_names


def _sizes(text):
    sizes = [int(part) for part in text.split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("a message has at least one interval")
    return sizes


def _peers(chosen):
    return chosen.peers if "peers" in chosen.only else ()


def missing(chosen):
    """Return what must be installed for the sections chosen, a line each."""
    return peer_builds.missing(_peers(chosen)) + (two_processes.missing() if "processes" in chosen.only else [])


def aims(result):
    """Return the issue's aims of the sections that ran, each with its figure and whether it holds."""
    found = []
    for name, section in SECTIONS.items():
        if name in result:
            found += [dict(zip(("aim", "figure", "wanted", "holds"), one, strict=True))
                      for one in section.reached(result[name])]  # fmt: skip
    return found


def is_ok(result):
    """All three sections ran, with no wrong answer, and every aim holds."""
    whole = all(name in result for name in SECTIONS)
    return whole and not result["problems"] and all(one["holds"] for one in result["aims"])


def report(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    tools = [result["machine"][tool] for tool in ("jdk", "gsoap", "gcc") if tool in result["machine"]]
    print("; ".join((machine.line(result["machine"]), f"{result['connections']} connections", *tools)))
    for name, section in SECTIONS.items():
        if name in result:
            print()
            rounds.print_table(section.rows(result[name]))
    print()
    for one in result["aims"]:
        figure = "not measured" if one["figure"] is None else f"{one['figure']:,.2f}"
        print(f"{'holds ' if one['holds'] else 'missed'}  {one['aim']}: {figure} (wanted {one['wanted']:g})")
    for problem in result["problems"]:
        print(f"problem: {problem}")
    print(f"ok: {result['ok']}")


if __name__ == "__main__":
    sys.exit(main())
