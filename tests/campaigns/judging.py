"""The judges of campaigns: what a store holds, by SQL, against what was sent; the tree by a second hand.

In: a connection of the database's own driver (sqlite3 or psycopg), what `traffic.py` sent. Out: counts and problems in
a `Found`. Nothing of the server is used here, and RFC 9162's hashing is written a second time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

from traffic import Found, Sent


def judge_entries(database: Any, sent: list[Sent], found: Found, others: Collection[str] = ()) -> None:
    """Every message once, with its content; every value once and as it was sent; nothing that nobody sent.

    `others`: senders whose entries are judged elsewhere; the meters of those judged here are named ``M-<serial>``.
    """
    entries: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for sender, message_id, content in database.execute("SELECT sender, message_id, content_sha256 FROM entry"):
        entries[sender, message_id].append(bytes(content))
    for one in sent:
        contents = entries.pop((one.device.serial, one.message_id), [])
        if len(contents) != 1:
            found.problem(f"{one.message_id}: {len(contents)} entries", "double" if contents else "lost")
        if any(content != hashlib.sha256(one.payload).digest() for content in contents):
            found.problem(f"{one.message_id}: an entry with a content nobody sent", "phantom")
    for sender, message_id in entries:
        if sender not in others:
            found.problem(f"{message_id} of {sender}: nobody sent that", "phantom")
    _judge_values(database, sent, found)


def _judge_values(database: Any, sent: list[Sent], found: Found) -> None:
    stored: dict[tuple[str, int], list[str]] = defaultdict(list)
    rows = database.execute("SELECT meter, interval_end_utc, value FROM interval_value WHERE outcome != 'gap'")
    for meter, end, value in rows:
        if meter.startswith("M-"):
            stored[meter, end].append(value.strip('"'))
    for one in sent:
        for index, value in enumerate(one.values):
            there = stored.pop((f"M-{one.device.serial}", one.first_end_utc + index * 900), [])
            if len(there) != 1:
                found.problem(f"{one.message_id}: value {index} {len(there)} times", "double" if there else "lost")
            elif Decimal(there[0]) != Decimal(value):
                found.problem(f"{one.message_id}: value {index} is {there[0]}, was {value}", "wrong")
    for meter, end in stored:
        found.problem(f"{meter} at {end}: a value nobody sent", "phantom")


def judge_receipts(database: Any, sent: list[Sent], found: Found) -> None:
    """Each partition's sequence without holes; each receipt on file is the one that was answered, and it carries its
    entry's place and the root over the entries before it."""
    query = "SELECT partition, seq, sender, message_id, leaf_hash, receipt FROM entry ORDER BY partition, seq"
    partitions: dict[int, list[Any]] = defaultdict(list)
    for number, *row in database.execute(query):
        partitions[number].append(row)
    by_id = {(one.device.serial, one.message_id): one for one in sent}
    for number, rows in partitions.items():
        if [row[0] for row in rows] != list(range(len(rows))):
            found.problem(f"the numbers of partition {number} have holes")
        befores = roots(bytes(row[3]) for row in rows)
        for (seq, sender, message_id, _, receipt), before in zip(rows, befores, strict=False):
            one = by_id.get((sender, message_id))
            if one is not None:
                _judge_receipt(one, bytes(receipt), (number, seq, before), found)


def _judge_receipt(one: Sent, receipt: bytes, place: tuple[int, int, bytes], found: Found) -> None:
    if receipt != one.receipt:
        return found.problem(f"{one.message_id}: the receipt on file is another", "receipts_changed")
    said = one.device.receipt(receipt, one.payload)
    if (*said.position, said.root_before) != place:
        found.problem(f"{one.message_id}: not the root over the {place[1]} entries before it", "roots_wrong")
    return None


def roots(leaves: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the root over no leaf, over the first, the first two, ... (RFC 9162 section 2.1.1)."""
    peaks: list[tuple[int, bytes]] = []  # complete subtrees from the left: size, hash
    yield hashlib.sha256().digest()
    for leaf in leaves:
        peaks.append((1, leaf))
        while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
            (size, right), (_, left) = peaks.pop(), peaks.pop()
            peaks.append((2 * size, _node(left, right)))
        _, root = peaks[-1]
        for _, left in reversed(peaks[:-1]):
            root = _node(left, root)
        yield root


def root(leaves: Sequence[bytes]) -> bytes:
    """The same over all leaves, straight from the definition."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    left = 1 << ((len(leaves) - 1).bit_length() - 1)
    return _node(root(leaves[:left]), root(leaves[left:]))


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
