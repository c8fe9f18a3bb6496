"""The naive peer's third storage, for bench/peers.py: what the other peers keep, in SQLite, a group a commit.

A row a channel's run of intervals, the raw message, the unique id, the signed receipt. All messages that came in during
one turn of the reactor are one transaction, which is the cheapest group commit there is in one thread.
"""

import json
import sqlite3
from decimal import Decimal

from peer_storage import Channels
from spyne import Fault
from twisted.internet.defer import Deferred


class BlockStore:
    """Blocks in SQLite with synchronous=FULL and group commit."""

    def __init__(self, folder, enrolled, reactor):
        self._reactor, self._group = reactor, []
        self._sql = sqlite3.connect(folder / "peer.db", isolation_level=None)
        self._sql.executescript("""
            PRAGMA journal_mode=WAL;
            PRAGMA synchronous=FULL;
            CREATE TABLE message (
                id INTEGER PRIMARY KEY, sender TEXT, message_id TEXT, content_sha256 BLOB, recorded_at TEXT,
                raw BLOB, receipt BLOB, UNIQUE (message_id, sender));
            CREATE TABLE block (
                channel INTEGER, first_end_utc INTEGER, last_end_utc INTEGER, message INTEGER, interval_s INTEGER,
                value_list TEXT, quality_list TEXT, PRIMARY KEY (channel, first_end_utc, message)) WITHOUT ROWID;
        """)
        self._seq = 0
        given = [(device["serial"], channel) for device in enrolled for channel in device["channels"]]
        rules = ("interval_s", "zone", "valid_from_utc")
        self._channels = Channels(
            ((serial, *one["key"]), number, *(one[name] for name in rules))
            for number, (serial, one) in enumerate(given, 1)
        )

    def find(self, sender, message_id):
        query = "SELECT content_sha256, receipt FROM message WHERE message_id = ? AND sender = ?"
        return self._sql.execute(query, (message_id, sender)).fetchone()

    def record(self, arrival, message, now, make_receipt):
        """Return a Deferred of the receipt."""
        blocks = list(self._channels.readings(arrival.sender, message, now))
        waiting = Deferred()
        if not self._group:
            self._reactor.callLater(0, self._commit)
        self._group.append((waiting, (arrival, message.Header.MessageID, blocks, now, make_receipt)))
        return waiting

    def _commit(self):
        group, self._group = self._group, []
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            answers = [self._one(*what) for _, what in group]
        for (waiting, _), receipt in zip(group, answers, strict=True):
            if receipt is None:
                waiting.errback(Fault("Client.MessageIdReused", "message-id-reused"))
            else:
                waiting.callback(receipt)

    def _one(self, arrival, message_id, blocks, now, make_receipt):
        stored = self.find(arrival.sender, message_id)
        if stored is not None:
            return stored[1] if stored[0] == arrival.digest else None
        self._seq += 1
        rows, counts = self._compared(blocks)
        self._sql.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        receipt = make_receipt(arrival, message_id, now, self._seq, counts)
        self._sql.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._seq, arrival.sender, message_id, arrival.digest, now.isoformat(), arrival.raw, receipt),
        )
        return receipt

    def _compared(self, blocks):
        """New values, those on file already, and those that differ from what is on file."""
        rows, counts = [], [0, 0, 0]
        for channel, interval_s, values in blocks:
            on_file = self._on_file(channel, values)
            outcomes = [_outcome(on_file.get(end), value) for end, value, _ in values]
            for place in range(3):
                counts[place] += outcomes.count(place)
            if set(outcomes) != {1}:
                rows += [(channel, run[0][0], run[-1][0], self._seq, interval_s, *_texts(run))
                         for run in _runs(values, interval_s)]  # fmt: skip
        return rows, counts

    def _on_file(self, channel, values):
        first, last = min(end for end, _, _ in values), max(end for end, _, _ in values)
        found = {}
        query = """SELECT first_end_utc, last_end_utc, interval_s, value_list FROM block
            WHERE channel = ? AND first_end_utc <= ? ORDER BY first_end_utc DESC, message"""
        for start, stop, interval_s, texts in self._sql.execute(query, (channel, last)):
            if stop < first:
                break
            for place, text in enumerate(json.loads(texts)):
                found.setdefault(start + place * interval_s, text)
        return found


def _outcome(old, value):
    """0 for a new value, 1 for a known one, 2 for a conflict."""
    return 0 if old is None else 1 if Decimal(old) == Decimal(value) else 2


def _runs(values, interval_s):
    """Split at gaps."""
    run = []
    for one in values:
        if run and one[0] != run[-1][0] + interval_s:
            yield run
            run = []
        run.append(one)
    yield run


def _texts(run):
    qualities = [";".join(code for code, _ in one) for _, _, one in run]
    return json.dumps([value for _, value, _ in run]), json.dumps(qualities) if any(qualities) else None
