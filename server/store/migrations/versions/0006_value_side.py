"""The value side: tariffs, contracts, bills and certificates as documents, and tasks for the running bus.

A column's meaning and unit is its comment, as in 0001. Revision 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_VIEWS = ("tariff", "contract", "bill")
# One row a version; `newest` is 1 for the one in force: the last by (recorded_at, partition, seq, line).
_VIEW = """
    CREATE VIEW {kind} AS
    SELECT d.id, d.owner, d.subject, d.from_utc, d.to_utc, d.content, e.recorded_at_utc_ms,
           CASE WHEN row_number() OVER (
               PARTITION BY d.owner, d.id ORDER BY e.recorded_at_utc_ms DESC, d.partition DESC, d.seq DESC, d.line DESC
           ) = 1 THEN 1 ELSE 0 END AS newest,
           d.partition, d.seq, d.line
    FROM document d
    JOIN entry e ON e.partition = d.partition AND e.seq = d.seq
    WHERE d.kind = '{kind}'
"""


def _text(name: str, comment: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False, comment=comment)


def _int(name: str, comment: str, *, nullable: bool = False, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, autoincrement=False, nullable=nullable, comment=comment)


def _small(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False, nullable=False, comment=comment)


def upgrade() -> None:
    """Make the tables and the views; or find the tables as `downgrade` left them."""
    if op.get_context().as_sql or not sa.inspect(op.get_bind()).has_table("document"):
        _documents()
    op.create_table(
        "task",
        sa.Column("id", _TEXT, primary_key=True, comment="UUIDv7; its entries' message ids are made of it"),
        _text("kind", "what is to be done: a name of server/tasks.py KINDS"),
        _text("args", "JSON object: with what"),
        _text("person", "who asked"),
        _int("asked_at_utc_ms", "when"),
        _text("state", "asked, done or refused"),
        _text("outcome", "JSON: what came of it, or the code and reason of the refusal; null while asked"),
        _int("done_at_utc_ms", "when it was done or refused; NULL while asked", nullable=True),
        comment="what commands beside the bus ask it to do, because only it writes entries",
    )
    still_asked = sa.text("state = 'asked'")
    op.create_index("task_asked", "task", ["asked_at_utc_ms"], sqlite_where=still_asked, postgresql_where=still_asked)
    for kind in _VIEWS:
        op.execute(_VIEW.format(kind=kind))


def downgrade() -> None:
    """Drop views and tasks. Documents stay where they are: the leaves of the log cover them."""
    for kind in _VIEWS:
        op.execute(f"DROP VIEW {kind}")
    op.drop_table("task")


def _documents() -> None:
    op.create_table(
        "document",
        _small("partition", "log partition of the entry that brought it"),
        _int("seq", "the entry's number in its partition", key=True),
        _small("line", "number of the document among the entry's documents, from 0"),
        _text("kind", "tariff, contract, bill or certificate"),
        _text("id", "unique within kind and owner, but for later versions"),
        _text("owner", "partner it belongs to, or `bus`"),
        _text("subject", "mRID of the usage point, or id of the contract, it is about; may be empty"),
        _int("from_utc", "first moment it is about, UTC seconds"),
        _int("to_utc", "first moment it no longer is about, UTC seconds; NULL: no end", nullable=True),
        _text("content", "its text as given: XML of a tariff, canonical JSON of the others"),
        sa.ForeignKeyConstraint(["partition", "seq"], ["entry.partition", "entry.seq"]),
        comment="tariffs, contracts, bills and certificates; never updated, in the leaf of their entry",
    )
    op.create_index("document_id", "document", ["kind", "owner", "id"])
    op.create_index("document_subject", "document", ["kind", "subject"])
