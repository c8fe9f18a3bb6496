"""The tree head: what the bus signs to say how far a partition of its log is, model <-> XML.

Floor 2. In and out as in `answers.py`: `encode` returns the Body's child in exclusive canonical form, `decode` takes it
from a *verified* document. It is sealed like every message (DESIGN section 1, one vocabulary); `exchange.open_head`
verifies one. RFC 9162 section 4.10 names the fields.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from . import ns, schemas, units
from .encoding import text_of
from .envelope import Element, base64_octets
from .errors import AnswerUntrusted, EnvelopeShape, SchemaInvalid

_T = f"{{{ns.TREE_HEAD}}}"


class TreeHead(NamedTuple):
    """The state of one partition of a bus's log.

    Attributes:
        source: the bus's id.
        partition: which.
        size: how many entries, seq 0 to size - 1.
        root: RFC 9162 root over them, 32 bytes.
        made_at_utc_ms: by the bus's clock.
    """

    source: str
    partition: int
    size: int
    root: bytes
    made_at_utc_ms: int


def encode(head: TreeHead) -> bytes:
    """Return a TreeHead element."""
    fields = (
        ("source", text_of(head.source)),
        ("partition", head.partition),
        ("treeSize", head.size),
        ("rootHash", base64.b64encode(head.root).decode()),
        ("timestamp", units.format_utc_ms(head.made_at_utc_ms)),
    )
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields)
    return f'<TreeHead xmlns="{ns.TREE_HEAD}">{inside}</TreeHead>'.encode()


def decode(payload: Element) -> TreeHead:
    """Decode the Body's child of a verified document.

    Raises:
        AnswerUntrusted: it is no tree head of the schema's form.
    """
    if payload.tag != f"{_T}TreeHead":
        raise AnswerUntrusted(detail=f"it is signed but no tree head: {payload.tag[:200]}")
    try:
        schemas.validate(payload)
        text = {child.tag.removeprefix(_T): (child.text or "").strip() for child in payload}
        return TreeHead(
            text["source"],
            int(text["partition"]),
            int(text["treeSize"]),
            base64_octets(text["rootHash"]),
            units.parse_utc_ms(text["timestamp"]),
        )
    except (SchemaInvalid, EnvelopeShape, ValueError) as error:
        raise AnswerUntrusted(detail=f"it is signed but not of its schema: {error}") from None
