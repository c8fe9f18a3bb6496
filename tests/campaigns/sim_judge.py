"""What a history must have come to, judged from outside: store by SQL, tree by RFC 9162, values by the meter.

Nothing of the product decides here. What was measured is what the false meter gave; what was sent is what the network
saw; what was acknowledged is what left the bus; the MDEF files are read back with the adapter's parser.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from base64 import b64decode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from gridpost.adapters.mv90 import Mv90Adapter
from gridpost.server.zones import zone_of
from sim_setting import INSIDER, meter_of

from gridpost.ports import FormatOptions

if TYPE_CHECKING:
    from sim_device import Device
    from sim_world import World

OLDEST_MS, EARLIEST_MS = 15 * 60_000, -60_000
WIRE = "{http://iec.ch/TC57/2011/MeterReadings#}"
Values = dict[tuple[str, str, int], set[Decimal]]  # meter, stream, interval end -> each value of it


def judge(world: World) -> None:
    database = sqlite3.connect(f"file:{world.bus.path}?mode=ro", uri=True)
    try:
        entries = database.execute(
            "SELECT seq, sender, message_id, noun, content_sha256, created_utc_ms, recorded_at_utc_ms, leaf_hash,"
            " receipt FROM entry ORDER BY seq"
        ).fetchall()
        stored = stored_values(database)
        judge_entries(world, entries)
        judge_tree(world, entries)
        judge_sent(world, entries, stored)
        judge_out(world, database, stored)
    finally:
        database.close()
    for device in world.devices:
        judge_measured(world, device, stored)


def judge_entries(world: World, entries: list[tuple[Any, ...]]) -> None:
    """Each acknowledged message is stored once, with the receipt that left; nothing else is, and nothing too late."""
    times: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    problem, before = world.trace.problem, 0
    for number, (seq, sender, message_id, noun, content, created, recorded, _, receipt) in enumerate(entries):
        times[sender, message_id].append(receipt)
        if seq != number or recorded < before:
            problem("log", f"entry {seq} has place {number}, or its time falls")
        before = recorded
        if not EARLIEST_MS <= recorded - created <= OLDEST_MS:
            problem("outside-window", f"{message_id}: sealed {(recorded - created) / 1000} s before it was recorded")
        if sender == INSIDER and noun != "MeterReadings":
            continue  # it may say of itself what it likes
        genuine = world.network.genuine.get(message_id)
        if genuine is None or genuine.sender != sender or hashlib.sha256(genuine.body).digest() != content:
            problem("forged", f"{sender} {message_id}: no device sent that")
    for key, found in times.items():
        if len(found) > 1:
            problem("stored-twice", f"{key}: {len(found)} entries")
    for key, receipts in world.receipts.items():
        if key not in times:
            problem("acknowledged-not-stored", f"{key}")
        elif not receipts <= set(times[key]):
            problem("receipts-differ", f"{key}: the one on file is not the one that left")
    for device in world.devices:
        for message_id in device.receipted:
            if (device.serial, message_id) not in times:
                problem("acknowledged-not-stored", f"{device.serial} took a receipt for {message_id}")


def judge_tree(world: World, entries: list[tuple[Any, ...]]) -> None:
    """Each receipt states its entry's place and the root over all before it (RFC 9162 section 2.1.1)."""
    peaks: list[tuple[int, bytes]] = []  # complete subtrees, the largest first: entries, hash
    for seq, _, message_id, _, _, _, _, leaf, receipt in entries:
        said = re.search(rb"<seq>(\d+)</seq><logRootBefore>([^<]+)</logRootBefore>", receipt)
        root = b""
        for _, peak in reversed(peaks):
            root = hashlib.sha256(b"\1" + peak + root).digest() if root else peak
        if said is None or int(said[1]) != seq or b64decode(said[2]) != (root or hashlib.sha256().digest()):
            world.trace.problem("root", f"{message_id}: not the place, or not the root over the {seq} before it")
        peaks.append((1, leaf))
        while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
            (size, left), (_, right) = peaks[-2:]
            peaks[-2:] = [(2 * size, hashlib.sha256(b"\1" + left + right).digest())]


def stored_values(database: sqlite3.Connection) -> Values:
    stored: Values = defaultdict(set)
    rows = database.execute("SELECT meter, stream, interval_end_utc, value FROM interval_value WHERE outcome != 'gap'")
    for meter, stream, end, value in rows:
        stored[meter, stream, end].add(Decimal(value.strip('"')))
    return stored


def judge_sent(world: World, entries: list[tuple[Any, ...]], stored: Values) -> None:
    """What is stored is what the stored messages said when their devices sent them, no value more, none less."""
    sent: Values = defaultdict(set)
    for _, sender, message_id, *_ in entries:
        genuine = world.network.genuine.get(message_id)
        if genuine is not None and genuine.sender == sender:
            add_values(sent, genuine.body)
    for key in sorted(sent.keys() | stored.keys()):
        if sent.get(key) != stored.get(key):
            world.trace.problem("values", f"{key}: sent {sent.get(key)}, stored {stored.get(key)}")


def add_values(values: Values, body: bytes) -> None:
    for reading in ElementTree.fromstring(body).iter(f"{WIRE}MeterReading"):
        meter = reading.findtext(f"{WIRE}Meter/{WIRE}mRID", "")
        stream = reading.findtext(f"{WIRE}Meter/{WIRE}Names/{WIRE}name", "")
        for interval in reading.iter(f"{WIRE}IntervalReadings"):
            value = interval.findtext(f"{WIRE}value")
            if value is not None:
                moment = datetime.fromisoformat(interval.findtext(f"{WIRE}timeStamp", ""))
                values[meter, stream, int(moment.timestamp())].add(Decimal(value))


def judge_measured(world: World, device: Device, stored: Values) -> None:
    """Each value is the difference of two stands the meter gave, and all of them add up to what it counted."""
    if not device.path.exists():
        return
    with sqlite3.connect(f"file:{device.path}?mode=ro", uri=True) as spool:
        last = dict(spool.execute("SELECT stream, raw FROM stand JOIN channel ON channel.id = channel"))
        waiting = spool.execute("SELECT count(*) FROM reading WHERE NOT sent").fetchone()[0]
    if waiting:
        world.trace.problem("not-drained", f"{device.serial}: {waiting} readings wait")
    meter = meter_of(device.serial)
    for stream in device.shape.streams:
        total = Decimal(0)
        starts = {one.counted[stream] for one in device.meter.given}
        ended: Mapping[int, list[int]] = defaultdict(list)
        for one in device.meter.given:
            ended[one.end_utc].append(one.counted[stream])
        for (_, _, end), versions in ((key, one) for key, one in stored.items() if key[:2] == (meter, stream)):
            total += min(versions)
            if len(versions) > 1:
                world.trace.problem("measured", f"{meter} {stream} {end}: two values {versions}")
            if not any(starts & _begins(ended, end, int(value * 1000)) for value in versions):
                world.trace.problem("measured", f"{meter} {stream} {end}: {versions} was not measured")
        given = [one.counted[stream] for one in device.meter.given]
        ends = {counted for counted in given if counted % (1 << 32) == last.get(stream)}
        if given and not any(end - first == total * 1000 for end in ends for first in given):
            world.trace.problem("measured", f"{meter} {stream}: {total} kWh stored, no two stands differ by that")
        if ends and max(ends) - given[0] - total * 1000 > max(given[:40]) - given[0]:
            world.trace.problem("measured", f"{meter} {stream}: {total} kWh stored of {(max(ends) - given[0]) / 1000}")


def _begins(ended: Mapping[int, Sequence[int]], end_utc: int, watt_hours: int) -> set[int]:
    """The stands from which an interval that ends then would have counted so much."""
    return {counted - watt_hours for counted in ended.get(end_utc, ())}


def judge_out(world: World, database: sqlite3.Connection, stored: Values) -> None:
    """Every file that was rendered is out, one content a name, and the newest of each day holds all its values."""
    problem = world.trace.problem
    for name, content, place in database.execute("SELECT name, content, place FROM outbox"):
        contents = world.bus.delivered.get(name, [])
        if place is None or content not in contents:
            problem("not-delivered", name)
        if len(set(contents)) > 1:
            problem("delivered-changed", f"{name}: {len(set(contents))} contents")
    newest: dict[str, bytes] = {}
    for name, contents in sorted(world.bus.delivered.items()):
        newest[name.rpartition("_r")[0]] = contents[-1]
    out: dict[tuple[str, str, int], Decimal] = {}
    for stem, content in sorted(newest.items()):
        meter = stem.rpartition("_")[0]
        device = next(one for one in world.devices if meter_of(one.serial) == meter)
        options = FormatOptions(zone=zone_of(device.shape.zone))
        blocks = Mv90Adapter().parse(content, options).readings.blocks
        for stream, block in zip(device.shape.streams, blocks, strict=False):
            for end, value in zip(block.ends_utc, block.values, strict=True):
                if value is not None:
                    out[meter, stream, end] = Decimal(value)
    for key in sorted(stored):
        found = out.get(key)
        if found is None or not any(abs(found - value) <= abs(value) / 1_000_000 for value in stored[key]):
            problem("not-delivered", f"{key}: {stored[key]} in the store, {found} in the newest file")
