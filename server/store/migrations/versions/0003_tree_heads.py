"""Signed tree heads of the log.

A column's meaning and unit is its comment, as in 0001. Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBERED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tree_head",
        sa.Column("id", _NUMBERED, primary_key=True, comment="order of making"),
        sa.Column(
            "partition",
            sa.Integer,
            sa.ForeignKey("partition.partition"),
            nullable=False,
            comment="log partition whose state it is",
        ),
        sa.Column("size", sa.BigInteger, nullable=False, comment="how many entries it covers: seq 0 to size - 1"),
        sa.Column("root", sa.LargeBinary, nullable=False, comment="RFC 9162 root over them"),
        sa.Column("made_at_utc_ms", sa.BigInteger, nullable=False, comment="when it was signed, by the bus's clock"),
        sa.Column("signed", sa.LargeBinary, nullable=False, comment="the signed document (urn:gridpost:tree-head:1)"),
        comment="tree heads: what the bus signed of the state of its log; kept for ever",
    )
    op.create_index("tree_head_partition", "tree_head", ["partition", "id"])


def downgrade() -> None:
    """Drop it; published heads stay what they are."""
    op.drop_table("tree_head")
