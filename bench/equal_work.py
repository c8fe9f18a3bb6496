"""Section `peers` of bench/peers.py: Gridpost, JDK, gSOAP and naive Python on the same messages, one core in turn.

All check and keep the same, a group of messages a sync; README.md has the steps, and who has the benefit where.
"""

import sys
import time

import peer_builds
import receipts
import rounds
import servers
import workload

OURS, JDK, GSOAP, NAIVE = "gridpost", "jdk", "gsoap", "naive"
PEERS = (JDK, GSOAP, NAIVE)
AIMS = {(1, JDK): 1.5, (1, GSOAP): 1.5, (96, JDK): 2.0, (96, GSOAP): 1.0, (1, NAIVE): 3.0, (96, NAIVE): 5.0}
FARTHER = (2.0, 3.0)  # what is wanted in the end, of all peers
DEVICES = 16
FIRST = 100  # messages that load a server's caches and tell its rate
FEWEST = 8
CHUNK_S = 2.0
MOST_SIGNED = 6_000  # at once: they are kept in memory, and must not grow old


def measure(folder, chosen, core, stack, problems):
    """Return, for each size, each server's figures and what Gridpost's rate is over it."""
    devices, field = _start(folder, chosen, core, stack)
    return {str(size): _size(size, devices, field, chosen, problems) for size in chosen.sizes}


def _start(folder, chosen, core, stack):
    """Return the devices and, by name, each server with what verifies its receipts; all asleep."""
    if NAIVE in chosen.peers:
        servers.peer_python()
    devices = workload.make_devices(DEVICES)
    ours = servers.start_ours(folder / "ours", devices, core, servers.Bus())
    stack.callback(ours.stop)
    field = {OURS: (ours, receipts.ours(folder / "ours" / "ca.pem"))}
    starts = {
        JDK: peer_builds.start_jdk,
        GSOAP: peer_builds.start_gsoap,
        NAIVE: lambda *given: servers.start_peer(NAIVE, "blocks", *given),
    }
    for name in chosen.peers:
        say(f"building and starting {name}")
        peer = starts[name](folder / name, devices, core)
        stack.callback(peer.stop)
        field[name] = (peer, receipts.peers(folder / name / "bus.pem"))
    for server, _ in field.values():
        server.sleep()
    return devices, field


def _size(size, devices, field, chosen, problems):
    counts = {}
    for name, turn in field.items():
        rate = _warm(size, name, turn, devices, chosen, problems)
        counts[name] = max(FEWEST, min(MOST_SIGNED, int(rate * chosen.seconds)))
    found = {name: [] for name in field}
    for number in range(chosen.rounds):
        say(f"{size} intervals: round {number + 1} of {chosen.rounds}, signing {max(counts.values())} messages")
        messages = _batch(devices, size, max(counts.values()), chosen)
        for name, (server, check) in field.items():
            sent = messages[: counts[name]]
            found[name].append(rounds.turn(server, check, sent, chosen.connections, problems))
    return summary(found)


def _warm(size, name, turn, devices, chosen, problems):
    """Let a server work as long as its caches, or its just-in-time compiler, want; return its best rate."""
    wanted_s = chosen.warm_jdk if name == JDK else chosen.warm
    say(f"{size} intervals: warming {name}, {wanted_s:g} s")
    server, check = turn
    count, worked_s, rate = FIRST, 0.0, 0.0
    while worked_s < wanted_s or not rate:
        messages = _batch(devices, size, count, chosen)
        began = time.perf_counter()
        rate = max(rate, rounds.turn(server, check, messages, chosen.connections, problems)["rate"])
        worked_s += time.perf_counter() - began
        count = max(FEWEST, min(MOST_SIGNED, int(rate * CHUNK_S)))
        if problems:
            break
    return rate


def _batch(devices, size, count, chosen):
    messages = workload.batch(devices, size, count)
    return [workload.foreign(one) for one in messages] if chosen.layout == "foreign" else messages


def summary(found):
    """Each server's figures of its rounds and, at each peer's, the ratio of Gridpost's to them."""
    result = {name: rounds.summary(done) for name, done in found.items()}
    for name in found:
        if name != OURS:
            result[name] |= rounds.ratios(found[OURS], found[name])
    return result


def reached(result):
    """Yield (aim, figure, wanted, whether it holds) for each of the issue's aims; a missing figure does not hold."""
    for (size, name), wanted in AIMS.items():
        figure = result.get(str(size), {}).get(name, {}).get("ratio")
        yield f"{size} intervals over {name}", figure, wanted, figure is not None and figure >= wanted


def rows(result):
    """Return the table's rows."""
    made = [rounds.HEAD]
    for size, servers_ in result.items():
        for place, (name, one) in enumerate(servers_.items()):
            made.append(("" if place else size, name, *rounds.cells(one)))
    return made


def say(text):
    print(text, file=sys.stderr, flush=True)
