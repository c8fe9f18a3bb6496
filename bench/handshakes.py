"""Section `tls` of bench/peers.py: each push on a TLS connection of its own, no session resumed, on one core."""

import statistics

import pushes
import receipts
import rounds
import servers
import workload
from equal_work import say

WANTED_PER_S = 600
AT_ONCE = 32
DEVICES = 16
WARM_UP = 200
SIZE = 1  # interval x 4 channels


def measure(folder, chosen, core, stack, problems):
    """Return pushes a second of the rounds, and the server's and the client's processor time."""
    devices = workload.make_devices(DEVICES)
    say("tls: starting gridpost")
    server = servers.start_ours(folder / "tls", devices, core, servers.Bus(https=True))
    stack.callback(server.stop)
    check = receipts.ours(folder / "tls" / "ca.pem")
    rate = _round(server, check, devices, WARM_UP, problems)["rate"]
    found = []
    for number in range(chosen.rounds):
        count = max(WARM_UP, int(rate * chosen.seconds))
        say(f"tls: round {number + 1} of {chosen.rounds}, {count} connections")
        found.append(_round(server, check, devices, count, problems))
    server.sleep()
    rates = [one["rate"] for one in found]
    medians = {name: statistics.median(one[name] for one in found) for name in ("cpu_us", "busy", "client_busy")}
    spread = {"per_s": statistics.median(rates), "per_s_min": min(rates), "per_s_max": max(rates)}
    return {**spread, **medians, "rounds": found}


def _round(server, check, devices, count, problems):
    messages = workload.batch(devices, SIZE, count)
    done = rounds.timed(server, lambda: pushes.closed_loop(server.tls_address, pushes.tls_context(), messages, AT_ONCE))
    problems += [f"tls: {text}" for text in rounds.wrong(done, messages, check)]
    return rounds.measured(done, messages[0].values)


def reached(result):
    """Yield the aim, as equal_work.reached does."""
    yield "new TLS connections a second, one core", result["per_s"], WANTED_PER_S, result["per_s"] >= WANTED_PER_S


def rows(result):
    """Return the table's rows."""
    least, most = (f"{result[name]:,.0f}" for name in ("per_s_min", "per_s_max"))
    times = (f"{result['cpu_us']:,.0f}", f"{result['busy']:.0%}", f"{result['client_busy']:.0%}")
    return [
        ("new TLS connection each", "", "pushes/s", "min - max", "CPU us", "busy", "client busy"),
        ("1 interval x 4", "gridpost", f"{result['per_s']:,.0f}", f"{least} - {most}", *times),
    ]
