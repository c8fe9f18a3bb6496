"""What each stage of Gridpost's own path costs for one message, in microseconds of one thread; no peer, no HTTP.

The stages are the ones a message walks in `server/reception.py`, each called by itself as reception calls it, on
messages of 1, 96 and 3,360 intervals x 4 channels signed with RSA-2048. The first two are the short way of our own
devices' layout (docs/adr/0011); those marked "reference" are what they stand for with any other layout. Rounds of all
stages alternate, so that a change of the machine's speed meets them alike. `record` is the store's, the signed receipt
and the sync included.

    .venv/bin/python bench/stages.py [--quick] [--json] [--database postgresql://postgres@/bench?host=/tmp/socket-folder]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import workload
from gridpost.server.store import create, open_store
from gridpost.server.zones import zone_of

from gridpost import answers, check, exchange, messages, schemas
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.model import Counts, Entry, Position, Receipt
from gridpost.testing import ThrowawayCA, enrolment

SIZES = (1, 96, 3360)
LIMITS = DEVICE_LIMITS.raised(4 << 20)
GROUP = 32
ROUNDS, QUICK_ROUNDS = 15, 3
MESSAGES = {1: GROUP, 96: GROUP, 3360: 4}  # in each round


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database, instead of an SQLite file")
    chosen = parser.parse_args()
    rounds = QUICK_ROUNDS if chosen.quick else ROUNDS
    found = {size: {} for size in SIZES}
    with tempfile.TemporaryDirectory(prefix="gridpost-bench-") as folder:
        bench = Bench(chosen.database or Path(folder) / "gridpost.db")
        for number in range(rounds + 1):
            for size in SIZES:
                for stage, microseconds in bench.round(size).items():
                    if number:  # the first warms caches
                        found[size].setdefault(stage, []).append(microseconds)
        bench.store.close()
    result = {
        "ok": True,
        "rounds": rounds,
        "microseconds": {
            str(size): {
                stage: {"median": statistics.median(times), "min": min(times), "max": max(times)}
                for stage, times in stages.items()
            }
            for size, stages in found.items()
        },
    }
    print(json.dumps(result) if chosen.json else _table(result["microseconds"]))


class Bench:
    """One device, one bus, one store, in this process."""

    def __init__(self, place):
        create(place)
        self.store = open_store(place, _now, serve=True)
        ca = ThrowawayCA()
        self.bus = ca.issue_bus()
        (self.device,) = workload.make_devices(1)
        self.device.signer = ca.issue_device(self.device.serial, self.device.key)
        held = self.store.add_ied(self.device.serial, "revenue meter", b"0123456789", self.device.channels)
        self.store.bind_certificate(self.device.serial, b"", self.device.signer.certificate)
        self.enrolment = enrolment(self.device.signer, self.device.serial, held)

    def round(self, size):
        """Take new messages of one size through every stage; return stage -> microseconds a message."""
        raws = [message.raw for message in workload.batch([self.device], size, MESSAGES[size])]
        now, times = _now(), {}
        recognised = _each(times, "recognise", raws, lambda raw: exchange.read(raw, LIMITS))
        authentic = _each(times, "verify", recognised, lambda one: exchange.verify(one, self.enrolment))
        shaped = _each(times, "reference: parse", raws, lambda raw: shape(raw, LIMITS))
        _each(times, "reference: verify", shaped, lambda one: exchange.verify(one, self.enrolment))
        _each(times, "reference: XSD", shaped, lambda one: schemas.validate(one.payload))
        _each(times, "reference: decode", shaped, lambda one: messages.decode(one.payload))
        _each(times, "look up signer", recognised, lambda one: self.store.enrolment(one.certificate_sha256))
        pairs = list(zip(recognised, authentic, strict=True))
        opened = [exchange.decode(plain, self.enrolment, held) for plain, held in pairs]
        _each(times, "find repeat", opened, lambda one: self.store.find(one.sender, one.message.header.message_id))
        channels = self.enrolment.channels
        rows = _each(times, "check", opened, lambda one: check.check(one.message, channels, now, zone_of))
        _each(times, "receipt alone", opened, lambda one: self._receipt(one)((0, 0), bytes(32), now, (0, 0, 0)))
        work = [(_entry(one), row, self._receipt(one)) for one, row in zip(opened, rows, strict=True)]
        half = len(work) // 2
        _each(times, "record, alone", work[:half], lambda one: self.store.record(*one).result())
        began = time.perf_counter()
        for future in [self.store.record(*one) for one in work[half:]]:
            future.result()
        times[f"record, in a group of {GROUP // 2}"] = (time.perf_counter() - began) / (len(work) - half) * 1e6
        return times

    def _receipt(self, opened):
        message_id = opened.message.header.message_id

        def make(position, root_before, recorded_at_utc_ms, counts):
            receipt = Receipt(
                message_id, opened.sender, opened.content_digest, opened.references, recorded_at_utc_ms,
                Position(*position), root_before, Counts(*counts),
            )  # fmt: skip
            return exchange.seal(answers.encode_receipt(receipt, "MeterReadings", "bus"), self.bus, recorded_at_utc_ms)

        return make


def _now():
    return time.time_ns() // 1_000_000


def _entry(opened):
    header = opened.message.header
    return Entry(
        sender=opened.sender,
        message_id=header.message_id,
        noun=header.noun,
        transport="http",
        content_digest=opened.content_digest,
        created_utc_ms=opened.created_utc_ms,
        sequence=header.sequence,
        last_receipt=header.last_receipt,
        evidence=opened.raw,
    )


def _each(times, stage, items, function):
    began = time.perf_counter()
    results = [function(item) for item in items]
    times[stage] = (time.perf_counter() - began) / len(items) * 1e6
    return results


def _table(found):
    stages = list(found[str(SIZES[0])])
    rows = [("microseconds a message", *(f"{size} x 4" for size in SIZES))]
    for stage in stages:
        cells = [found[str(size)][stage] for size in SIZES]
        rows.append((stage, *(f"{cell['median']:,.0f} [{cell['min']:,.0f}-{cell['max']:,.0f}]" for cell in cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width)
                  for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
