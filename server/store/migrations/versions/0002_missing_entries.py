"""What this log lacks: entries that devices hold receipts for, and when the store was put back from a backup.

Revision 0002. A device quotes the newest receipt it holds (Header property lastReceipt). When the log has no such
entry, or another one in its place, an older copy of the store was put back, or its past was rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _int(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, comment=comment)


def _small(name: str, comment: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=key, autoincrement=False, nullable=False, comment=comment)


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "missing_entry",
        sa.Column("sender", _TEXT, primary_key=True, comment="who holds a receipt that this log does not know"),
        _small("partition", "log partition of the entries that are missing", key=True),
        _int("first_seq", "missing from this number on, as far as is known; others may have taken the numbers"),
        _int("last_seq", "up to this one, the newest whose receipt the sender quoted"),
        sa.Column("root", _TEXT, nullable=False, comment="the root before last_seq, in hex, as the sender quoted it"),
        _small("quoted_partition", "the entry that quotes it: its partition"),
        _int("quoted_seq", "and its number there"),
        _int("noticed_at_utc_ms", "when that was noticed first"),
        comment="what a sender should be asked for again: it was acknowledged and is not in this log",
    )
    op.create_table(
        "restoration",
        _small("partition", "log partition", key=True),
        sa.Column(
            "restored_at_utc_ms", sa.BigInteger, primary_key=True, autoincrement=False,
            comment="when `gridpost restore` put this store in place",
        ),
        _int("size", "entries the partition had then: what came after the backup is missing from this number on"),
        comment="the times this store was put back from a backup",
    )  # fmt: skip


def downgrade() -> None:
    """Drop both; no entry or reading is in them."""
    op.drop_table("restoration")
    op.drop_table("missing_entry")
