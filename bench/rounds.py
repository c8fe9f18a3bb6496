"""A round: one server has its core, the messages are sent, the answers are judged; and what several rounds come to."""

import gc
import statistics
import time

import load

CHECKED = 5  # receipts verified in each round
CLIENT_BUSY = 0.8


def turn(server, check, messages, connections, problems):
    """Let one server have its core, send the messages, verify some receipts; what is wrong is added to `problems`."""
    gc.collect()
    gc.disable()
    server.wake()
    done = load.run(server.address, messages, connections, server.cpu_s)
    server.sleep()
    gc.enable()
    problems += [f"{server.name}: {text}" for text in wrong(done, messages, check)]
    if done.client_cpu_s > CLIENT_BUSY * done.seconds:
        problems.append(f"{server.name}: the client was busy {done.client_cpu_s / done.seconds:.0%} of the round")
    return measured(done, messages[0].values)


def timed(server, push):
    """Return the load.Round of `push()`, which returns seconds and pushes.Outcomes."""
    gc.collect()
    gc.disable()
    cpu, before = time.process_time(), server.cpu_s()
    seconds, outcomes = push()
    took = seconds, time.process_time() - cpu, server.cpu_s() - before
    gc.enable()
    failed = [one.error for one in outcomes if one.error]
    answers = [(one.message, load.Answer(one.status, one.body, one.took_s)) for one in outcomes if not one.error]
    return load.Round(*took, answers, f"{len(failed)} failed, such as {failed[0]}" if failed else "")


def measured(done, values):
    """The figures of a finished load.Round."""
    count = len(done.answers)
    waited = sorted(answer.seconds for _, answer in done.answers) or [0.0]
    return {
        "messages": count,
        "rate": count / done.seconds,
        "values": values,
        "cpu_us": done.server_cpu_s / max(1, count) * 1e6,
        "busy": done.server_cpu_s / done.seconds,
        "client_busy": done.client_cpu_s / done.seconds,
        "p50_ms": waited[count // 2] * 1000 if count else 0.0,
        "p99_ms": waited[count * 99 // 100] * 1000 if count else 0.0,
    }


def wrong(done, messages, check):
    """Yield what is wrong with the answers of a round: each is a 200 that names its message, some receipts verified."""
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


def summary(rounds):
    """Medians of one server's rounds, and the least and greatest rate."""
    rates = [one["rate"] for one in rounds]
    medians = {name: statistics.median(one[name] for one in rounds) for name in ("cpu_us", "busy", "p50_ms", "p99_ms")}
    return {
        "messages_per_s": statistics.median(rates),
        "messages_per_s_min": min(rates),
        "messages_per_s_max": max(rates),
        "values_per_s": statistics.median(rates) * rounds[0]["values"],
        **medians,
        "client_busy": max(one["client_busy"] for one in rounds),
        "rounds": rounds,
    }


def ratios(rounds, others, figure="rate"):
    """How many times `others` the `rounds` are: median over median, and the least and greatest of the rounds' own."""
    pairs = [one[figure] / other[figure] for one, other in zip(rounds, others, strict=True)]
    median = statistics.median(one[figure] for one in rounds) / statistics.median(one[figure] for one in others)
    return {"ratio": median, "ratio_min": min(pairs), "ratio_max": max(pairs)}


def print_table(rows):
    """Print rows of texts, the first the head, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if place < 2 else cell.rjust(width)
                        for place, (cell, width) in enumerate(zip(row, widths, strict=True))))  # fmt: skip


HEAD = ("intervals x 4", "server", "messages/s", "min - max", "values/s", "CPU us", "busy", "p50 ms", "p99 ms",
        "gridpost is", "min - max")  # fmt: skip


def cells(one):
    """One server's cells behind its size and name."""
    rate, low, high = (f"{one[f'messages_per_s{suffix}']:,.1f}" for suffix in ("", "_min", "_max"))
    times = (f"{one['cpu_us']:,.0f}", f"{one['busy']:.0%}", f"{one['p50_ms']:,.1f}", f"{one['p99_ms']:,.1f}")
    ratio = ratio_cells(one) if "ratio" in one else ("", "")
    return (rate, f"{low} - {high}", f"{one['values_per_s']:,.0f}", *times, *ratio)


def ratio_cells(one):
    """The two cells of a ratio: median, and least to greatest."""
    return f"{one['ratio']:.2f}x", f"{one['ratio_min']:.2f} - {one['ratio_max']:.2f}"
