"""Documents as they are asked for: by kind, owner, subject and id, up to a data version.

Selects only, on connections of their own. Which version is in force is computed, never kept: the last one by
(recorded_at, partition, seq, line).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, false, or_, select

from gridpost.documents import Document
from gridpost.model import DataVersion, Position
from gridpost.ports import StoredDocument

from .driver import select_keyed
from .enrolments import Enrolments
from .tables import entry
from .tables_value import document

_d = document.c
_COLUMNS = tuple(_d[name] for name in Document._fields)
_DOCUMENTS = (
    select(_d.partition, _d.seq, entry.c.recorded_at_utc_ms, *_COLUMNS)
    .join(entry, and_(entry.c.partition == _d.partition, entry.c.seq == _d.seq))
    .order_by(entry.c.recorded_at_utc_ms, _d.partition, _d.seq, _d.line)
)
_DOCUMENTS_OF = f"""
    SELECT d.partition, d.seq, e.recorded_at_utc_ms, {", ".join(f"d.{name}" for name in Document._fields)}
    FROM wanted w CROSS JOIN {document.name} d JOIN {entry.name} e ON e.partition = d.partition AND e.seq = d.seq
    WHERE d.partition = w.k0 AND d.seq = w.k1 ORDER BY d.partition, d.seq, d.line
"""


class Documents(Enrolments):
    """What `SqlStore` tells of documents."""

    def documents(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> list[StoredDocument]:
        """See `ports.Store`."""
        return newest(self.document_versions(kind, owner=owner, subject=subject, id=id, at=at))

    def document_versions(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> list[StoredDocument]:
        """See `ports.Store`."""
        query = _DOCUMENTS.where(_d.kind == kind)
        for column, wanted in ((_d.owner, owner), (_d.subject, subject), (_d.id, id)):
            if wanted is not None:
                query = query.where(column == wanted)
        if at is not None:
            known = [and_(_d.partition == number, _d.seq <= seq) for number, seq in at.items()]
            query = query.where(or_(*known) if known else false())
        with self._look() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def documents_of(self, positions: Sequence[Position]) -> list[StoredDocument]:
        """Return the documents of those entries, in order of position and line."""
        with self._look() as connection:
            return [_stored(row) for row in select_keyed(connection, _DOCUMENTS_OF, sorted(set(positions)))]


def newest(found: Sequence[StoredDocument]) -> list[StoredDocument]:
    """Return the last version of each document, in the order these came."""
    last = {one.document[:3]: one for one in found}
    return [one for one in found if last[one.document[:3]] is one]


def _stored(row: Any) -> StoredDocument:
    return StoredDocument(Position(row[0], row[1]), row[2], Document._make(row[3:]))
