"""The tables as SQLAlchemy Core sees them, for queries only.

What a column means, and its unit, is written once: as the column's comment in `migrations/versions/`. A test compares
both. Times end in `_utc` (seconds) or `_utc_ms` (milliseconds). JSON text is Text, because engines round numbers.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()
_NUMBERED = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in a column of exactly INTEGER


def needed(name: str, kind: type[Text] | type[BigInteger] | type[Integer] | type[LargeBinary]) -> Column[object]:
    """Return a column that is never NULL."""
    return Column(name, kind, nullable=False)


def row_key() -> tuple[Column[object], ...]:
    """Return the key of an entry's rows."""
    return (
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("line", Integer, primary_key=True, autoincrement=False),
    )


def of_entry() -> ForeignKeyConstraint:
    """Return the reference of an entry's rows to it."""
    return ForeignKeyConstraint(["partition", "seq"], ["entry.partition", "entry.seq"])


ied = Table(
    "ied",
    metadata,
    Column("serial", Text, primary_key=True),
    needed("kind", Text),
    needed("added_at_utc_ms", BigInteger),
    Column("secret", LargeBinary),
    Column("csr_sha256", LargeBinary),
    Column("factors", Text),
)

certificate = Table(
    "certificate",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("serial", Text, ForeignKey("ied.serial"), nullable=False),
    needed("der", LargeBinary),
    needed("csr_sha256", LargeBinary),
    needed("bound_at_utc_ms", BigInteger),
    Column("revoked_at_utc_ms", BigInteger),
    needed("name", Text),
    Column("rights", Text),
    Column("ends_at_utc_ms", BigInteger),
    Column("issuer_sha256", LargeBinary),
    Column("revoked_by", Text),
    needed("not_after_utc_ms", BigInteger),
)
Index("certificate_serial", certificate.c.serial)
Index("certificate_not_after", certificate.c.not_after_utc_ms)
_REVOKED = certificate.c.revoked_at_utc_ms.isnot(None)
_REPLACED = certificate.c.ends_at_utc_ms.isnot(None)
Index("certificate_revoked", certificate.c.revoked_at_utc_ms, sqlite_where=_REVOKED, postgresql_where=_REVOKED)
Index("certificate_replaced", certificate.c.ends_at_utc_ms, sqlite_where=_REPLACED, postgresql_where=_REPLACED)

channel = Table(
    "channel",
    metadata,
    Column("id", _NUMBERED, primary_key=True),
    Column("serial", Text, ForeignKey("ied.serial"), nullable=False),
    needed("usage_point", Text),
    needed("meter", Text),
    needed("stream", Text),
    needed("reading_type", Text),
    needed("unit", Text),
    needed("interval_s", Integer),
    needed("zone", Text),
    needed("valid_from_utc", BigInteger),
    Column("valid_to_utc", BigInteger),
)
Index("channel_serial", channel.c.serial)
Index("channel_meter", channel.c.meter)
Index("channel_usage_point", channel.c.usage_point)

enrolment_version = Table(
    "enrolment_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    needed("version", BigInteger),
)

partition = Table(
    "partition",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    needed("token", BigInteger),
    needed("holder", Text),
    needed("taken_at_utc_ms", BigInteger),
    needed("interval_values", BigInteger),
    needed("conflicts", BigInteger),
    needed("gaps", BigInteger),
    needed("register_readings", BigInteger),
    needed("events", BigInteger),
)

# The long columns come last, so that SQLite reads the others without walking their overflow pages.
entry = Table(
    "entry",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    needed("sender", Text),
    needed("message_id", Text),
    needed("noun", Text),
    needed("transport", Text),
    needed("created_utc_ms", BigInteger),
    Column("sequence", BigInteger),
    needed("last_receipt", Text),
    needed("content_sha256", LargeBinary),
    needed("recorded_at_utc_ms", BigInteger),
    needed("evidence_sha256", LargeBinary),
    needed("rows_sha256", LargeBinary),
    needed("leaf_hash", LargeBinary),
    needed("receipt", LargeBinary),
    Column("evidence", LargeBinary),
)
# message_id first: time-ordered ids then land side by side (facts/store.md: 9 us an insert instead of 67).
Index("entry_message_id", entry.c.message_id, entry.c.sender, unique=True)

log_node = Table(
    "log_node",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    needed("hash", LargeBinary),
    sqlite_with_rowid=False,
)

tree_head = Table(
    "tree_head",
    metadata,
    Column("id", _NUMBERED, primary_key=True),
    Column("partition", Integer, ForeignKey("partition.partition"), nullable=False),
    needed("size", BigInteger),
    needed("root", LargeBinary),
    needed("made_at_utc_ms", BigInteger),
    needed("signed", LargeBinary),
)
Index("tree_head_partition", tree_head.c.partition, tree_head.c.id)

interval_block = Table(
    "interval_block",
    metadata,
    *row_key(),
    Column("channel_id", BigInteger, ForeignKey("channel.id"), nullable=False),
    needed("first_interval_end_utc", BigInteger),
    needed("last_interval_end_utc", BigInteger),
    needed("interval_s", Integer),
    needed("interval_values", Text),
    Column("qualities", Text),
    needed("outcome", Text),
    of_entry(),
)
# The last end rides along so that a day of one-interval rows is searched inside the index.
Index(
    "interval_block_channel",
    interval_block.c.channel_id,
    interval_block.c.first_interval_end_utc,
    interval_block.c.last_interval_end_utc,
)

register_reading = Table(
    "register_reading",
    metadata,
    *row_key(),
    Column("channel_id", BigInteger, ForeignKey("channel.id"), nullable=False),
    needed("reading_type", Text),
    needed("time_utc", BigInteger),
    needed("value", Text),
    Column("qualities", Text),
    needed("outcome", Text),
    of_entry(),
)
Index("register_reading_channel", register_reading.c.channel_id, register_reading.c.time_utc)

event = Table(
    "event",
    metadata,
    *row_key(),
    needed("mrid", Text),
    needed("event_type", Text),
    needed("created_utc_ms", BigInteger),
    needed("asset", Text),
    needed("reason", Text),
    needed("severity", Text),
    needed("details", Text),
    of_entry(),
)
Index("event_asset", event.c.asset, event.c.created_utc_ms)

cursor = Table(
    "cursor",
    metadata,
    Column("reader", Text, primary_key=True),
    needed("version", Text),
    needed("state", Text),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _NUMBERED, primary_key=True),
    needed("reader", Text),
    needed("name", Text),
    needed("sha256", LargeBinary),
    needed("version", Text),
    needed("queued_at_utc_ms", BigInteger),
    Column("place", Text),
    Column("delivered_at_utc_ms", BigInteger),
    needed("content", LargeBinary),
)
Index("outbox_name", outbox.c.reader, outbox.c.name, unique=True)
_WAITING = outbox.c.delivered_at_utc_ms.is_(None)
Index("outbox_waiting", outbox.c.id, sqlite_where=_WAITING, postgresql_where=_WAITING)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", _NUMBERED, primary_key=True),
    needed("reader", Text),
    needed("subject", Text),
    needed("reason", Text),
    needed("dead_at_utc_ms", BigInteger),
)
Index("dead_letter_subject", dead_letter.c.reader, dead_letter.c.subject)

refusal = Table(
    "refusal",
    metadata,
    Column("code", Text, primary_key=True),
    needed("count", BigInteger),
)

missing_entry = Table(
    "missing_entry",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    needed("first_seq", BigInteger),
    needed("last_seq", BigInteger),
    needed("root", Text),
    needed("quoted_partition", Integer),
    needed("quoted_seq", BigInteger),
    needed("noticed_at_utc_ms", BigInteger),
)

restoration = Table(
    "restoration",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("restored_at_utc_ms", BigInteger, primary_key=True, autoincrement=False),
    needed("size", BigInteger),
)

crl = Table(
    "crl",
    metadata,
    Column("issuer_sha256", LargeBinary, primary_key=True),
    needed("issuer", LargeBinary),
    needed("own", Integer),
    needed("number", Text),
    needed("this_update_utc_ms", BigInteger),
    needed("next_update_utc_ms", BigInteger),
    needed("taken_at_utc_ms", BigInteger),
    needed("der", LargeBinary),
)

alarm = Table(
    "alarm",
    metadata,
    Column("code", Text, primary_key=True),
    needed("count", BigInteger),
    needed("last_at_utc_ms", BigInteger),
)

expiry_notice = Table(
    "expiry_notice",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    needed("days", Integer),
    needed("told_at_utc_ms", BigInteger),
)
