"""What one reader makes of a message for several: its own parts, opened, and held against the message around them.

Floor 3. In: a message whose signature was verified, and the reader's private key. Out: readings by kind, or one error
for every cause. Never call this on a message that is not verified: anybody may encrypt to a public key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import encryption, messages, ns, schemas
from .encrypted_readings import CreatedEncryptedReadings, EncryptedPart
from .encryption import PrivateKey
from .envelope import DEVICE_LIMITS, parse
from .errors import NotDecryptable, PeerFault
from .model import Header, Readings

_E = f"{{{ns.ENCRYPTED_READINGS}}}"


def open_parts(message: CreatedEncryptedReadings, key: PrivateKey) -> Mapping[str, Readings]:
    """Return the readings of each part that is for this key; empty when none is.

    Raises:
        NotDecryptable: a part that says it is for this key does not open with it, or was not made for this message.
    """
    return dict(_opened(message, key))


def _opened(message: CreatedEncryptedReadings, key: PrivateKey) -> Iterator[tuple[str, Readings]]:
    public = key.public_key()
    for part in message.parts:
        if part.encrypted.is_for(public):
            yield part.kind, _open(message.header, part, key)


def _open(header: Header, part: EncryptedPart, key: PrivateKey) -> Readings:
    """One part. What is wrong inside is not told either: who could alter a part must not learn by trying."""
    content = encryption.decrypt(part.encrypted, key)
    try:
        root = parse(content, DEVICE_LIMITS)
        schemas.validate(root)
        stated = tuple((root.findtext(f"{_E}{name}") or "").strip() for name in ("kind", "source", "messageID"))
        if root.tag == f"{_E}Part" and stated == (part.kind, header.source, header.message_id):
            return messages.decode_readings(root[3])
    except PeerFault:
        raise NotDecryptable() from None
    raise NotDecryptable()
