"""The peer's two storages: a row a value and a transaction a message in SQLite, or Gridpost's own store.

Both resolve channels, refuse what is off the grid, unassigned or in the future, compare with what is on file, and let
the receipt go only after a commit with synchronous=FULL.
"""

import sqlite3
import time
from zoneinfo import ZoneInfo

from spyne import Fault
from twisted.internet.defer import Deferred

from gridpost.model import Block, Channel, ChannelKey, Counts, Entry, Quality, Rows

AHEAD_S = 60


class Channels:
    """Who may say what: (sender, usage point, meter, stream, reading type) -> id, interval, zone, valid from."""

    def __init__(self, rows):
        self._known = {row[0]: (*row[1:3], ZoneInfo(row[3]), row[4]) for row in rows}

    def readings(self, sender, message, now):
        """Yield (channel id, interval, [(interval end, value, qualities)]) for each block, checked."""
        latest = now.timestamp() + AHEAD_S
        for reading in message.Payload.MeterReadings.MeterReading:
            stream = next((name.name for name in reading.Meter.Names or () if name.NameType.name == "channel"), "")
            for block in reading.IntervalBlocks:
                key = (sender, reading.UsagePoint.mRID, reading.Meter.mRID, stream, block.ReadingType.ref)
                if key not in self._known:
                    raise Fault("Client.ReadingsRefused", "unknown-channel")
                channel, interval_s, zone, valid_from = self._known[key]
                values = []
                for one in block.IntervalReadings:
                    if one.timeStamp is None or one.value is None:
                        raise Fault("Client.SchemaInvalid", "an interval needs a timeStamp and a value")
                    end = int(one.timeStamp.timestamp())
                    qualities = tuple((q.ReadingQualityType.ref, q.comment or "") for q in one.ReadingQualities or ())
                    values.append((end, str(one.value), qualities))
                self._check([end for end, _, _ in values], (interval_s, zone, valid_from, latest), one.timeStamp)
                yield channel, interval_s, values

    @staticmethod
    def _check(ends, rules, moment):
        interval_s, zone, valid_from, latest = rules
        local = moment.astimezone(zone)
        offset = int((local.utcoffset() - local.dst()).total_seconds())  # the bench's zones have one standard offset
        if max(ends) > latest:
            raise Fault("Client.ReadingInFuture", "reading-in-future")
        if min(ends) <= valid_from or any((end + offset) % 86400 % interval_s for end in ends):
            raise Fault("Client.ReadingsRefused", "off-grid")


class RowStore:
    """A row a value, a transaction a message, in the reactor: the plain way."""

    def __init__(self, folder, enrolled, reactor):
        del reactor
        self._sql = sqlite3.connect(folder / "peer.db", isolation_level=None)
        self._sql.executescript("""
            PRAGMA journal_mode=WAL;
            PRAGMA synchronous=FULL;
            CREATE TABLE message (
                id INTEGER PRIMARY KEY, sender TEXT, message_id TEXT, content_sha256 BLOB, recorded_at TEXT,
                raw BLOB, receipt BLOB, UNIQUE (message_id, sender));
            CREATE TABLE reading (
                channel INTEGER, interval_end_utc INTEGER, message INTEGER, value TEXT, quality TEXT, outcome TEXT,
                PRIMARY KEY (channel, interval_end_utc, message)) WITHOUT ROWID;
        """)
        rows = []
        for device in enrolled:
            for channel in device["channels"]:
                key = (device["serial"], *channel["key"])
                rules = (channel["interval_s"], channel["zone"], channel["valid_from_utc"])
                rows.append((key, len(rows) + 1, *rules))
        self._channels = Channels(rows)

    def find(self, sender, message_id):
        query = "SELECT content_sha256, receipt FROM message WHERE message_id = ? AND sender = ?"
        return self._sql.execute(query, (message_id, sender)).fetchone()

    def record(self, arrival, message, now, make_receipt):
        message_id = message.Header.MessageID
        blocks = list(self._channels.readings(arrival.sender, message, now))
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            cursor = self._sql.execute(
                "INSERT INTO message (sender, message_id, content_sha256, recorded_at, raw) VALUES (?, ?, ?, ?, ?)",
                (arrival.sender, message_id, arrival.digest, now.isoformat(), arrival.raw),
            )
            rows, counts = self._compared(blocks, cursor.lastrowid)
            self._sql.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?)", rows)
            receipt = make_receipt(arrival, message_id, now, cursor.lastrowid, counts)
            self._sql.execute("UPDATE message SET receipt = ? WHERE id = ?", (receipt, cursor.lastrowid))
        return receipt

    def _compared(self, blocks, message):
        """New values, those on file already, and those that differ from what is on file."""
        rows, known, conflicting = [], 0, 0
        query = "SELECT interval_end_utc, value FROM reading WHERE channel = ? AND interval_end_utc BETWEEN ? AND ?"
        for channel, _, values in blocks:
            ends = [end for end, _, _ in values]
            on_file = dict(self._sql.execute(query, (channel, min(ends), max(ends))))
            for end, value, qualities in values:
                if on_file.get(end) == value:
                    known += 1
                    continue
                outcome = "conflict" if end in on_file else "stored"
                conflicting += end in on_file
                quality = ";".join(code for code, _ in qualities) or None
                rows.append((channel, end, message, value, quality, outcome))
        return rows, (len(rows) - conflicting, known, conflicting)


class GridpostStore:
    """Gridpost's store behind the same front: packed blocks, compressed evidence, group commit, the log."""

    def __init__(self, folder, enrolled, reactor):
        from gridpost.server.store import create, open_store

        create(folder / "gridpost.db")
        self._store = open_store(folder / "gridpost.db", lambda: time.time_ns() // 1_000_000, serve=True)
        self._reactor = reactor
        rows = []
        for device in enrolled:
            given = [
                Channel(ChannelKey(*one["key"]), one["unit"], one["interval_s"], one["zone"], one["valid_from_utc"])
                for one in device["channels"]
            ]
            for held in self._store.add_ied(device["serial"], "revenue meter", b"0123456789", given):
                rules = (held.interval_s, held.zone, held.valid_from_utc)
                rows.append(((device["serial"], *held.key), held.id, *rules))
        self._channels = Channels(rows)

    def find(self, sender, message_id):
        stored = self._store.find(sender, message_id)
        return stored and (stored.content_digest, stored.receipt)

    def record(self, arrival, message, now, make_receipt):
        header = message.Header
        blocks = []
        for channel, interval_s, values in self._channels.readings(arrival.sender, message, now):
            ends, literals, qualities = zip(*values, strict=True)
            kept = tuple(tuple(Quality(*pair) for pair in one) for one in qualities)
            blocks.append(Block(channel, interval_s, ends, literals, kept))
        entry = Entry(
            sender=arrival.sender,
            message_id=header.MessageID,
            noun=header.Noun,
            transport="http",
            content_digest=arrival.digest,
            created_utc_ms=int(arrival.created.timestamp() * 1000),
            sequence=None,
            last_receipt="",
            evidence=arrival.raw,
        )

        def receipt(position, root_before, recorded_at_utc_ms, counts: Counts):
            del root_before, recorded_at_utc_ms
            return make_receipt(arrival, header.MessageID, now, position.seq, counts)

        future = self._store.record(entry, Rows(tuple(blocks)), receipt)
        waiting = Deferred()
        future.add_done_callback(lambda _: self._reactor.callFromThread(waiting.callback, None))
        return waiting.addCallback(lambda _: future.result())


STORAGES = {"rows": RowStore, "gridpost": GridpostStore}
