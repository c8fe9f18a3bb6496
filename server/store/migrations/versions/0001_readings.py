"""The log, its readings, who may write, and what goes out. Revision 0001, schema of Gridpost 0.1.

The comments are the schema's documentation: every column's meaning, unit and enumerated values. SQLite drops them,
PostgreSQL keeps them. `..._utc` is seconds since 1970-01-01T00:00:00Z, `..._utc_ms` milliseconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBERED = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# Rows for people who bring SQL: one interval a row, the value's text exactly as sent (json_each alone makes floats).
_INTERVAL_VALUE = {
    "sqlite": """
        CREATE VIEW interval_value AS
        SELECT b.channel_id, c.usage_point, c.meter, c.stream, c.reading_type, c.unit,
               b.first_interval_end_utc + j.key * b.interval_s AS interval_end_utc,
               NULLIF(b.interval_values -> j.key, 'null') AS value,
               CASE WHEN b.qualities IS NULL THEN NULL ELSE NULLIF(b.qualities -> j.key, 'null') END AS qualities,
               b.outcome, b.partition, b.seq, b.line, e.recorded_at_utc_ms
        FROM interval_block b
        JOIN channel c ON c.id = b.channel_id
        JOIN entry e ON e.partition = b.partition AND e.seq = b.seq
        JOIN json_each(b.interval_values) j
    """,
    "postgresql": """
        CREATE VIEW interval_value AS
        SELECT b.channel_id, c.usage_point, c.meter, c.stream, c.reading_type, c.unit,
               b.first_interval_end_utc + (j.number - 1) * b.interval_s AS interval_end_utc,
               NULLIF(j.value::text, 'null') AS value,
               NULLIF((b.qualities::json -> (j.number - 1)::integer)::text, 'null') AS qualities,
               b.outcome, b.partition, b.seq, b.line, e.recorded_at_utc_ms
        FROM interval_block b
        JOIN channel c ON c.id = b.channel_id
        JOIN entry e ON e.partition = b.partition AND e.seq = b.seq
        CROSS JOIN LATERAL json_array_elements(b.interval_values::json) WITH ORDINALITY AS j (value, number)
    """,
}

# Texts compare by their bytes on both engines. (A view's columns take the collation of what they are made of.)
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str, comment: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable, comment=comment)


def _int(name: str, comment: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, comment=comment)


def _small(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, comment=comment)


def _bytes(name: str, comment: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=nullable, comment=comment)


def _id(comment: str) -> sa.Column[int]:
    return sa.Column("id", _NUMBERED, primary_key=True, comment=comment)


def _entry_key() -> tuple[sa.Column[int], ...]:
    return (
        sa.Column(
            "partition",
            sa.Integer,
            primary_key=True,
            autoincrement=False,
            comment="log partition of the entry; 0 in a store of one process",
        ),
        sa.Column(
            "seq",
            sa.BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="the entry's number in its partition, from 0, without holes",
        ),
    )


def _line() -> sa.Column[int]:
    return sa.Column(
        "line",
        sa.Integer,
        primary_key=True,
        autoincrement=False,
        comment="number of this row among the entry's rows of its kind, from 0, in the order they were judged",
    )


def _of_entry() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["partition", "seq"], ["entry.partition", "entry.seq"])


def upgrade() -> None:
    """Make all tables and the view."""
    _enrolment()
    _log()
    _rows()
    _outward()
    engine = op.get_context().dialect.name
    op.execute(_INTERVAL_VALUE[engine])
    if engine == "postgresql":
        # Compressed already: do not try again at each write.
        op.execute("ALTER TABLE entry ALTER COLUMN evidence SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop everything: there is no earlier schema."""
    op.execute("DROP VIEW interval_value")
    for table in ("refusal", "dead_letter", "outbox", "cursor", "event", "register_reading", "interval_block"):
        op.drop_table(table)
    for table in ("log_node", "entry", "partition", "enrolment_version", "channel", "certificate", "ied"):
        op.drop_table(table)


def _enrolment() -> None:
    op.create_table(
        "ied",
        sa.Column("serial", _TEXT, primary_key=True, comment="the sender in entries and Source in messages"),
        _text("kind", "what kind of device, free text, for people"),
        _int("added_at_utc_ms", "when it was enrolled, or enrolled again after a revocation"),
        _bytes("secret", "80-bit secret of the enrolment code; NULL once the IED is revoked", nullable=True),
        _bytes("csr_sha256", "SHA-256 of the CSR (DER) the code is bound to; NULL while unused", nullable=True),
        comment="devices that may post messages",
    )
    op.create_table(
        "certificate",
        sa.Column("sha256", sa.LargeBinary, primary_key=True, comment="SHA-256 of `der`"),
        sa.Column("serial", _TEXT, sa.ForeignKey("ied.serial"), nullable=False, comment="whose"),
        _bytes("der", "the certificate, DER"),
        _bytes("csr_sha256", "SHA-256 of the CSR (DER) it answered"),
        _int("bound_at_utc_ms", "when it was issued"),
        _int("revoked_at_utc_ms", "from when on it signs no new message; NULL while in force", nullable=True),
        comment="device certificates, kept for ever: receipts name what they signed",
    )
    op.create_index("certificate_serial", "certificate", ["serial"])
    op.create_table(
        "channel",
        _id("the channel's number in this store"),
        sa.Column("serial", _TEXT, sa.ForeignKey("ied.serial"), nullable=False, comment="the IED that speaks for it"),
        _text("usage_point", "mRID of the usage point"),
        _text("meter", "mRID of the meter"),
        _text("stream", "stream name; empty where the others name the channel alone"),
        _text("reading_type", "IEC 61968-9 reading type of its intervals, 18 dotted numbers"),
        _text("unit", "symbol of the reading type's unit, such as kWh"),
        _small("interval_s", "interval length in seconds; divides 86400"),
        _text("zone", "IANA name of the zone at whose standard midnight the interval grid starts"),
        _int("valid_from_utc", "first moment the IED speaks for it, inclusive"),
        _int("valid_to_utc", "first moment it no longer does; NULL while open", nullable=True),
        comment="channels, effective-dated; one IED at a time",
    )
    op.create_index("channel_serial", "channel", ["serial"])
    op.create_index("channel_meter", "channel", ["meter"])
    op.create_table(
        "enrolment_version",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="1: the only row"),
        _int("version", "rises with every change of ied, certificate or channel: caches compare it"),
        comment="tells a running bus that another process changed the enrolments",
    )
    op.execute("INSERT INTO enrolment_version (id, version) VALUES (1, 0)")


def _log() -> None:
    op.create_table(
        "partition",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="its number"),
        _int("token", "fencing token: rises whenever a writer takes the partition, compared in each commit"),
        _text("holder", "process id of that writer, for people"),
        _int("taken_at_utc_ms", "when it was taken"),
        _int("interval_values", "interval values on file, outcome stored: a running count for `gridpost status`"),
        _int("conflicts", "likewise, outcome conflict, intervals and registers"),
        _int("gaps", "likewise, outcome gap"),
        _int("register_readings", "likewise, register readings stored"),
        _int("events", "likewise, events"),
        comment="partitions of the log",
    )
    op.execute(
        "INSERT INTO partition (partition, token, holder, taken_at_utc_ms, interval_values, conflicts, gaps, "
        "register_readings, events) VALUES (0, 0, '', 0, 0, 0, 0, 0, 0)"
    )
    op.create_table(
        "entry",
        *_entry_key(),
        _text("sender", "enrolled id of the sender"),
        _text("message_id", "Header/MessageID"),
        _text("noun", "Header/Noun: MeterReadings, EndDeviceEvents"),
        _text("transport", "how it came: http, mail, files, relay"),
        _int("created_utc_ms", "the Security Timestamp's Created of the sealing kept"),
        _int("sequence", "the sender's own rising number; NULL for foreign senders", nullable=True),
        _text("last_receipt", "partition:seq:root of the newest receipt the sender held; empty when none"),
        _bytes("content_sha256", "SHA-256 of exc-c14n of the Body's one child: what a repeat must equal"),
        _int("recorded_at_utc_ms", "our clock at the commit; never falls within a partition"),
        _bytes("evidence_sha256", "SHA-256 of the message as received, before compression"),
        _bytes("rows_sha256", "SHA-256 of the entry's rows as JSON lines (gridpost/leaf.py)"),
        _bytes("leaf_hash", "RFC 9162 leaf hash of the entry"),
        _bytes("receipt", "the signed answer, byte for byte; every repeat gets it"),
        _bytes("evidence", "the message as received, zstd level 1; NULL once it is due to go", nullable=True),
        comment="the log: append-only",
    )
    op.create_index("entry_message_id", "entry", ["message_id", "sender"], unique=True)
    op.create_table(
        "log_node",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="log partition"),
        sa.Column(
            "level",
            sa.Integer,
            primary_key=True,
            autoincrement=False,
            comment="height, from 1 (level 0 is entry.leaf_hash)",
        ),
        sa.Column(
            "number",
            sa.BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="the subtree holds 2^level leaves from number * 2^level on",
        ),
        _bytes("hash", "RFC 9162 hash of that complete subtree"),
        comment="complete subtrees of each partition's Merkle tree",
        sqlite_with_rowid=False,
    )


def _rows() -> None:
    op.create_table(
        "interval_block",
        *_entry_key(),
        _line(),
        sa.Column("channel_id", sa.BigInteger, sa.ForeignKey("channel.id"), nullable=False, comment="whose values"),
        _int("first_interval_end_utc", "end of the first interval"),
        _int("last_interval_end_utc", "end of the last interval; in the same UTC day, 00:00 closing one"),
        _small("interval_s", "interval length in seconds; the values are contiguous"),
        _text("interval_values", "JSON array of exact decimals as sent, in the reading type's unit; null in a gap"),
        _text("qualities", "JSON array: null (valid) or a list of [code, detail]; NULL when all valid", nullable=True),
        _text("outcome", "stored: a version; conflict: a version that waits for a resolution; gap: a note"),
        _of_entry(),
        comment="interval values; immutable, a correction is a further row",
    )
    op.create_index(
        "interval_block_channel",
        "interval_block",
        ["channel_id", "first_interval_end_utc", "last_interval_end_utc"],
    )
    op.create_table(
        "register_reading",
        *_entry_key(),
        _line(),
        sa.Column(
            "channel_id",
            sa.BigInteger,
            sa.ForeignKey("channel.id"),
            nullable=False,
            comment="the interval channel that this register's differences are",
        ),
        _text("reading_type", "the register's own reading type"),
        _int("time_utc", "the moment of the reading"),
        _text("value", "exact decimal as sent, in the reading type's unit"),
        _text("qualities", "JSON array of one: a list of [code, detail]; NULL when valid", nullable=True),
        _text("outcome", "stored: a version; conflict: a version that waits for a resolution"),
        _of_entry(),
        comment="register readings; immutable",
    )
    op.create_index("register_reading_channel", "register_reading", ["channel_id", "time_utc"])
    op.create_table(
        "event",
        *_entry_key(),
        _line(),
        _text("mrid", "the event's own id; empty when the device gave none"),
        _text("event_type", "IEC 61968-9 annex E, four dotted numbers"),
        _int("created_utc_ms", "when it happened, by the device's clock"),
        _text("asset", "mRID of the meter or IED it concerns"),
        _text("reason", "free text"),
        _text("severity", "free text"),
        _text("details", "JSON object, name to value, sorted by name"),
        _of_entry(),
        comment="events of devices; immutable",
    )


def _outward() -> None:
    op.create_table(
        "cursor",
        sa.Column("reader", _TEXT, primary_key=True, comment="name of the reader"),
        _text("version", "JSON object partition -> seq: the newest entries it has dealt with"),
        _text("state", "JSON object: what else the reader remembers"),
        comment="how far each reader of the log has come",
    )
    op.create_table(
        "outbox",
        _id("order of queueing"),
        _text("reader", "the reader that rendered it"),
        _text("name", "file name, stable and unique for the reader"),
        _bytes("sha256", "SHA-256 of `content`"),
        _text("version", "JSON object partition -> seq: the data version it was rendered at"),
        _int("queued_at_utc_ms", "when it was put here, with the reader's cursor"),
        _text("place", "where it was delivered to; NULL while waiting", nullable=True),
        _int("delivered_at_utc_ms", "when; NULL while waiting", nullable=True),
        _bytes("content", "the file"),
        comment="rendered files: delivered at least once, idempotent by name",
    )
    op.create_index("outbox_name", "outbox", ["reader", "name"], unique=True)
    waiting = sa.text("delivered_at_utc_ms IS NULL")
    op.create_index("outbox_waiting", "outbox", ["id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "dead_letter",
        _id("order of giving up"),
        _text("reader", "the reader concerned"),
        _text("subject", "name of the outbox file, or partition:seq of the entry"),
        _text("reason", "why it was given up"),
        _int("dead_at_utc_ms", "when"),
        comment="what could not be rendered or delivered and waits for a person",
    )
    op.create_index("dead_letter_subject", "dead_letter", ["reader", "subject"])
    op.create_table(
        "refusal",
        sa.Column("code", _TEXT, primary_key=True, comment="error code, docs/errors.md"),
        _int("count", "refusals with that code since the store was made"),
        comment="refusals, counted; the details are in the audit log",
    )
