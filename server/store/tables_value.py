"""The tables of the value side: documents, and what the running bus is asked to make an entry of.

As in `tables.py`, whose metadata this is: a column's meaning and unit stand in migrations/versions/0006.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from .tables import metadata, needed, of_entry, row_key

# The columns behind the key are those of gridpost/leaf.py DocumentRow, in its order.
document = Table(
    "document",
    metadata,
    *row_key(),
    needed("kind", Text),
    needed("id", Text),
    needed("owner", Text),
    needed("subject", Text),
    needed("from_utc", BigInteger),
    Column("to_utc", BigInteger),
    needed("content", Text),
    of_entry(),
)
Index("document_id", document.c.kind, document.c.owner, document.c.id)
Index("document_subject", document.c.kind, document.c.subject)

task = Table(
    "task",
    metadata,
    Column("id", Text, primary_key=True),
    needed("kind", Text),
    needed("args", Text),
    needed("person", Text),
    needed("asked_at_utc_ms", BigInteger),
    needed("state", Text),
    needed("outcome", Text),
    Column("done_at_utc_ms", BigInteger),
)
_ASKED = task.c.state == "asked"
Index("task_asked", task.c.asked_at_utc_ms, sqlite_where=_ASKED, postgresql_where=_ASKED)
