"""gridpost decrypt FILE: what one reader of a message for several may read.

In: a signed message, the CA whose devices are believed, the reader's private key. Out: who sent it, which parts there
are, and the readings of those that are for this key, as CSV. Nothing is deciphered before the signature over the whole
was found right, by signxml, which shares no code with the bus's verifier. Needs no bus, no store and no network; starts
without Twisted and Spyne.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.x509.oid import NameOID

from gridpost import encryption, messages, parts, schemas, tabular
from gridpost.encrypted_readings import CreatedEncryptedReadings
from gridpost.errors import NotDecryptable, SourceMismatch, UnknownOperation
from gridpost.model import Readings

from .. import independent
from .files import write_whole
from .output import done, json_option

_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("decrypt")
@click.argument("file", type=_THERE)
@click.option("--key", "key_file", type=_THERE, required=True, help="The reader's private key, PEM.")
@click.option("--trust", type=_THERE, required=True, help="The device CA (ca.pem of the bus), PEM.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the readings go, as CSV.")
@json_option
def command(file: Path, key_file: Path, trust: Path, out: Path | None, as_json: bool) -> None:
    """Verify a message for several readers, and read the parts that are for this key.

    Exit status: 0 it is genuine and a part was read, 1 otherwise.
    """
    key = encryption.private_key(key_file.read_bytes())
    message = _verified(file.read_bytes(), trust.read_bytes())
    opened = parts.open_parts(message, key)
    if not opened:
        raise NotDecryptable(f"no part of {file} is for this key, {encryption.key_name(key.public_key())}")
    if out:
        write_whole(out, tabular.render(_joined(opened)))
    result = _result(message, opened)
    done(
        as_json, result, "\n".join([f"{file}: from {result['sender']}, message {result['message_id']}", *_told(result)])
    )


def _verified(raw: bytes, ca_pem: bytes) -> CreatedEncryptedReadings:
    """Return the message if its signature, its schema and its sender hold."""
    signed = independent.verify_signature(raw, ca_pem)
    payload = signed.envelope.payload
    messages.kind_of(payload)
    schemas.validate(payload)
    message = messages.decode(payload)
    if not isinstance(message, CreatedEncryptedReadings):
        raise UnknownOperation(f"{schemas.path_of(payload, payload)} has no encrypted parts")
    names = x509.load_der_x509_certificate(signed.certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [message.header.source]:
        raise SourceMismatch(f"Source {message.header.source} was signed by {signed.subject}")
    return message


def _joined(opened: Mapping[str, Readings]) -> Readings:
    found = opened.values()
    blocks = tuple(block for readings in found for block in readings.blocks)
    return Readings(blocks, tuple(register for readings in found for register in readings.registers))


def _result(message: CreatedEncryptedReadings, opened: Mapping[str, Readings]) -> dict[str, Any]:
    kinds = [part.kind for part in message.parts]
    return {
        "message_id": message.header.message_id,
        "sender": message.header.source,
        "parts": [{"kind": kind, "readings": opened[kind].count if kind in opened else None} for kind in kinds],
    }


def _told(result: Mapping[str, Any]) -> list[str]:
    return [
        f"  {part['kind']}: {'for others' if part['readings'] is None else str(part['readings']) + ' reading(s)'}"
        for part in result["parts"]
    ]
