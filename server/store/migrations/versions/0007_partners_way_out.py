"""How a partner is called: whose certificates vouch for its HTTPS, and who the bus is to its MultiSpeak service.

A column's meaning is its comment, as in 0001. Revision 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COLUMNS = {
    "ca": "path of the certificates (PEM) that vouch for its HTTPS; empty: those the machine trusts",
    "push_user": "UserID of the bus at its MultiSpeak service; empty: none is stated",
    "push_password_file": "path of the file whose first line is the password that goes with it; empty: none",
}


def upgrade() -> None:
    """Add the columns; or find them as `downgrade` left them."""
    inspected = None if op.get_context().as_sql else sa.inspect(op.get_bind())
    there = {column["name"] for column in inspected.get_columns("partner")} if inspected else set()
    for name, comment in _COLUMNS.items():
        if name not in there:
            op.add_column("partner", sa.Column(name, _TEXT, nullable=False, server_default="", comment=comment))


def downgrade() -> None:
    """Leave them where they are: an older Gridpost does not look at them."""
