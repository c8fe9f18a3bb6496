"""What a sealed file of readings may be: readings in the clear, or parts that each reader opens for himself.

In: what ``--for`` names, certificates or public keys on disk. Out: a `Form` that turns a header and readings into a
message's Body. The secrets of a message are drawn here, fresh for each part, and forgotten with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from gridpost import encrypted_readings, encryption, messages, partners
from gridpost.encrypted_readings import Clear
from gridpost.encryption import Reader, Secrets
from gridpost.errors import ConfigInvalid
from gridpost.model import Channel, ChannelKey, CreatedMeterReadings, Header, Readings, ReadingType

KINDS = ("billing", "power-quality")  # of partners.KINDS: those that readings are of


class Form(NamedTuple):
    """A noun, and how its Body is made of readings."""

    noun: str
    encode: Callable[[Header, Readings], bytes]


PLAIN = Form("MeterReadings", lambda header, readings: messages.encode(CreatedMeterReadings(header, readings)))


class Wanted(NamedTuple):
    """One ``--for``: whose key, and which kinds of data it may read."""

    file: Path
    kinds: tuple[str, ...]


def wanted(text: str) -> Wanted:
    """Read ``reader.pem=billing,power-quality``.

    Raises:
        ConfigInvalid: another form, or a kind there is not.
    """
    file, separator, kinds = text.rpartition("=")
    found = tuple(kinds.split(","))
    if not separator or not file or not set(found) <= set(KINDS):
        raise ConfigInvalid(f"{text!r} is not FILE=KIND[,KIND] with kinds of {', '.join(KINDS)}")
    return Wanted(Path(file), found)


def named(folder: Path, key: str, kinds: str) -> Wanted:
    """Read a ``[[reader]]`` of ied.toml; `key` is relative to `folder`.

    Raises:
        ConfigInvalid: no key, no kind, or one there is not.
    """
    if not (key and kinds.split()):
        raise ConfigInvalid("a [[reader]] needs key and kinds")
    return wanted(f"{folder / key}={','.join(kinds.split())}")


def form_for(readers: Sequence[Wanted], channels: Sequence[Channel] = ()) -> Form:
    """Return how readings are sealed for these readers; in the clear when there are none.

    Args:
        readers: with their kinds.
        channels: what is to be sealed, so that a kind nobody reads is found now and not with the first message.

    Raises:
        ConfigInvalid: a file that is no certificate or public key of a kind we encrypt to; a channel nobody reads.
    """
    if not readers:
        return PLAIN
    by_kind: dict[str, list[Reader]] = {kind: [] for kind in KINDS}
    for file, kinds in readers:
        reader = encryption.reader(file.stem, _read(file))
        for kind in dict.fromkeys(kinds):
            by_kind[kind].append(reader)
    for channel in channels:
        if not by_kind[_kind_of(channel.key)]:
            raise ConfigInvalid(
                f"channel {'/'.join(channel.key)} is {_kind_of(channel.key)}: no reader is given for it"
            )
    return Form(encrypted_readings.NOUN, lambda header, readings: _encode(header, readings, by_kind))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"{file} cannot be read: {error.strerror}") from None


def _encode(header: Header, readings: Readings, by_kind: dict[str, list[Reader]]) -> bytes:
    parts = {kind: _of_kind(readings, kind) for kind in KINDS}
    filled = {kind: part for kind, part in parts.items() if part.count}
    unread = [kind for kind in filled if not by_kind[kind]]
    if unread:
        raise ConfigInvalid(f"the file holds {' and '.join(unread)} readings, and no reader is given for them")
    clear = {kind: Clear(part, by_kind[kind], _fresh()) for kind, part in filled.items()}
    return encrypted_readings.encode(header, clear)


def _of_kind(readings: Readings, kind: str) -> Readings:
    return replace(
        readings,
        blocks=tuple(block for block in readings.blocks if _kind_of(block.channel) == kind),
        registers=tuple(register for register in readings.registers if _kind_of(register.channel) == kind),
    )


def _kind_of(channel: ChannelKey) -> str:
    return partners.kind_of(ReadingType.parse(channel.reading_type).measurement_kind)


def _fresh() -> Secrets:
    return Secrets(
        secrets.token_bytes(encryption.KEY_OCTETS),
        secrets.token_bytes(encryption.NONCE_OCTETS),
        ec.generate_private_key(ec.SECP256R1()),
    )
