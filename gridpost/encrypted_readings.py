"""Readings for several readers: the message whose parts are encrypted, value <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, to be sealed like any other. In: the Body's child of a
message that is verified and schema-valid. Encrypt, then sign: the signature covers the parts as sent, so every reader
verifies the whole and opens only its own (`parts.py`). Nothing is deciphered here, and a bus needs no more than this.

Because a signature can be taken off and another put on, a part says inside, where only its readers see it, which
message it was made for: source, message id and kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import encryption, ns, schemas
from .encoding import encode_header, encode_readings, octets, text_of
from .encryption import Encrypted, Reader, Secrets
from .envelope import Element
from .errors import ConfigInvalid, Item, SchemaInvalid
from .model import Header, Readings

NOUN = "EncryptedReadings"
MOST_PARTS = 4  # as the schema has it


class EncryptedPart(NamedTuple):
    """A part as it travels; `kind` is what it says of itself in the clear, such as ``billing``."""

    kind: str
    encrypted: Encrypted


@dataclass(frozen=True, slots=True)
class CreatedEncryptedReadings:
    """A push of readings that the bus stores and cannot read."""

    header: Header
    parts: tuple[EncryptedPart, ...]


class Clear(NamedTuple):
    """A part before it is encrypted: its readings, who shall read them, and the secrets for it alone."""

    readings: Readings
    readers: Sequence[Reader]
    secrets: Secrets


def encode(header: Header, parts: Mapping[str, Clear]) -> bytes:
    """Return a message of encrypted parts as the Body's child.

    Args:
        header: Verb created, Noun EncryptedReadings.
        parts: kind -> what it holds, in the order of the message; 1 to 4.

    Raises:
        ConfigInvalid: no part or too many, or readers that cannot be (see `encryption.encrypt`).
        CannotRepresent: a text holds a character that XML cannot.
    """
    if not 1 <= len(parts) <= MOST_PARTS:
        raise ConfigInvalid(f"{len(parts)} parts; a message has 1 to {MOST_PARTS}")
    encrypted = "".join(
        f"<EncryptedPart><kind>{text_of(kind)}</kind>"
        f"{encryption.encrypt(_part(header, kind, clear.readings), clear.readers, clear.secrets)}</EncryptedPart>"
        for kind, clear in parts.items()
    )
    name = f"Created{NOUN}"
    return octets(
        f'<{name} xmlns="{ns.ENCRYPTED_READINGS}">{encode_header(header)}'
        f"<Payload><{NOUN}>{encrypted}</{NOUN}></Payload></{name}>"
    )


def _part(header: Header, kind: str, readings: Readings) -> bytes:
    return octets(
        f'<Part xmlns="{ns.ENCRYPTED_READINGS}"><kind>{text_of(kind)}</kind><source>{text_of(header.source)}</source>'
        f"<messageID>{text_of(header.message_id)}</messageID>{encode_readings(readings)}</Part>"
    )


def decode(header: Header, element: Element) -> CreatedEncryptedReadings:
    """Decode an EncryptedReadings element.

    Raises:
        SchemaInvalid: two parts of one kind, or an EncryptedData not of the one shape (`encryption.read`).
    """
    parts = tuple(EncryptedPart((kind.text or "").strip(), encryption.read(data)) for kind, data in element)
    if len({part.kind for part in parts}) < len(parts):
        reason = "two parts of one kind"
        raise SchemaInvalid(reason, items=[Item(SchemaInvalid.code, reason, schemas.path_of(element))])
    return CreatedEncryptedReadings(header, parts)
