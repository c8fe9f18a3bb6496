"""gridpost verify FILE...: do receipts, tree heads, messages and proof files say what their signers signed.

In: files, and the CA to trust. Out: for each what it states, or each finding with its code and place; exit status 0
when all hold, 1 when one does not. Needs no store, no bus and no network; starts without Twisted and Spyne. Signatures
are judged by signxml (server/independent.py), which shares no code with the bus's own verifier. Several files are also
held against each other: two signed words of one log must have one root for one size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from rich.progress import Progress

from gridpost import bill_proof, exchange, messages, proof, schemas, wssecurity
from gridpost.applications import completeness
from gridpost.applications.completeness import Completeness
from gridpost.bill_proof import BillVerifier
from gridpost.envelope import DEVICE_LIMITS, shape
from gridpost.errors import ConfigInvalid, EnvelopeShape, FileInvalid, Item, PeerFault, SignatureInvalid, SourceMismatch
from gridpost.evidence import Authority, Signed
from gridpost.heads import TreeHead
from gridpost.model import Message, Receipt
from gridpost.proof import Root, Verifier
from gridpost.units import format_utc, format_utc_ms

from .. import independent
from ..identity import pem_of
from .output import console, done, json_option

LONGEST_LINE = 256 << 20  # of a proof file; an entry holds one message


class IndependentAuthority:
    """Signatures by signxml, certificates by their chain to the CAs given."""

    def __init__(self, ca_pem: str) -> None:
        """`ca_pem`: one or more CA certificates."""
        self._ca_pem = ca_pem.encode()
        self._named = {one.public_bytes(Encoding.DER) for one in independent.authorities(self._ca_pem)}

    def bus(self, raw: bytes) -> Signed:
        """See `evidence.Authority`."""
        signed = independent.verify_signature(raw, self._ca_pem)
        if not _is_bus(signed.certificate):
            raise SignatureInvalid(detail="the signer's certificate is not a bus's")
        if not wssecurity.is_as_signed(signed.envelope):
            raise EnvelopeShape(detail="bytes outside the signature were changed")
        return Signed(signed.envelope.payload, "", signed.created_utc_ms)

    def device(self, raw: bytes) -> Signed:
        """See `evidence.Authority`; of a bus, and of a certificate trusted for its own sake, no name counts."""
        signed = independent.verify_signature(raw, self._ca_pem)
        if signed.certificate in self._named or _is_bus(signed.certificate):
            return Signed(signed.envelope.payload, "", signed.created_utc_ms)
        names = x509.load_der_x509_certificate(signed.certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        serial = str(names[0].value) if len(names) == 1 else ""
        return Signed(signed.envelope.payload, serial, signed.created_utc_ms)

    partner = device


class BillAuthority(IndependentAuthority):
    """For proofs of bills: a supplier's tariff holds also where nobody here knows the supplier's CA.

    Then the message must hold by the certificate it brings, and whose that is, the bus alone says: in the leaf, the
    receipt and the head.

    Attributes:
        vouched: such certificates; they are told, none is hidden.
    """

    def __init__(self, ca_pem: str) -> None:
        """See `IndependentAuthority`."""
        super().__init__(ca_pem)
        self.vouched: set[str] = set()

    def partner(self, raw: bytes) -> Signed:
        """See `evidence.Authority`."""
        try:
            return self.device(raw)
        except SignatureInvalid:
            own = x509.load_der_x509_certificate(shape(raw, DEVICE_LIMITS.raised(len(raw))).certificate)
            signed = independent.verify_signature(raw, pem_of(own).encode())
        self.vouched.add(f"{signed.subject} sha256:{sha256(signed.certificate).hexdigest()}")
        return Signed(signed.envelope.payload, "", signed.created_utc_ms)


def _is_bus(der: bytes) -> bool:
    try:
        usages = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return exchange.BUS_KEY_USAGE in usages


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file is and states, what is wrong with it, and what it says of a log."""

    file: str
    kind: str
    states: dict[str, Any]
    items: tuple[Item, ...]
    roots: tuple[Root, ...] = ()


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--trust", "trust", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The device CA (ca.pem of the bus), PEM. Without it a proof file is checked against the CA it names itself.",
)  # fmt: skip
@json_option
def command(files: tuple[Path, ...], trust: Path | None, as_json: bool) -> None:
    """Check receipts, tree heads, messages and proof files, offline.

    Without --trust nothing is found right: who signed is then not known. Exit status: 0 all hold, 1 one does not.
    """
    trusted = _trusted(trust) if trust else []
    with Progress(console=console(), transient=True) as bars:
        task = bars.add_task("verifying", total=sum(file.stat().st_size for file in files))
        verdicts = [verify(file, trusted, lambda count: bars.advance(task, count)) for file in files]
    disagreements = _compare(verdicts)
    ok = not disagreements and not any(verdict.items for verdict in verdicts)
    result = {
        "ok": ok,
        "files": [_shown(one) for one in verdicts],
        "findings": [_finding(one) for one in disagreements],
    }
    done(as_json, result, "\n".join(_told(verdicts, disagreements)))
    sys.exit(not ok)


def _trusted(file: Path) -> list[str]:
    try:
        return [pem_of(certificate) for certificate in independent.authorities(file.read_bytes())]
    except ConfigInvalid as error:
        raise click.BadParameter(f"{file}: {error.reason}", param_hint="--trust") from None


def verify(file: Path, trusted: Sequence[str], watch: Callable[[int], None]) -> Verdict:
    """Check one file.

    Args:
        file: where it is.
        trusted: CA certificates, PEM; empty: none is known, which is a finding.
        watch: told how many bytes were read, now and then.
    """
    with file.open("rb") as stream:
        first = stream.readline(LONGEST_LINE)
        if proof.is_proof(first) or bill_proof.is_bill_proof(first):
            stream.seek(0)
            return (_proof if proof.is_proof(first) else _bill)(str(file), trusted, _watched(stream, watch))
    raw = file.read_bytes()
    watch(len(raw))
    if not first.lstrip().startswith(b"<"):
        return Verdict(str(file), "unknown", {}, (Item(FileInvalid.code, "no file of ours begins so", "line 1"),))
    try:
        return _sealed(str(file), raw, trusted)
    except PeerFault as error:
        return Verdict(str(file), "unknown", {}, (Item(error.code, error.detail or error.reason),))


def _watched(stream: Any, watch: Callable[[int], None]) -> Iterator[bytes]:
    while line := stream.readline(LONGEST_LINE):
        yield line
        watch(len(line))


def _proof(name: str, trusted: Sequence[str], lines: Iterator[bytes]) -> Verdict:
    return _verdict((name, "proof"), Verifier(trusted, IndependentAuthority), lines)


def _bill(name: str, trusted: Sequence[str], lines: Iterator[bytes]) -> Verdict:
    return _verdict((name, "proof of a bill"), BillVerifier(trusted, BillAuthority), lines)


def _verdict(of: tuple[str, str], verifier: Verifier, lines: Iterator[bytes]) -> Verdict:
    verifier.run(lines)
    states = {
        **verifier.states,
        "entries": verifier.entries,
        "values": verifier.values,
        "without_message": verifier.without_evidence,
        "heads": [_head(head) for head in verifier.heads.values()],
    }
    if isinstance(verifier.authority, BillAuthority) and verifier.authority.vouched:
        states["known_to_the_bus_alone"] = "; ".join(sorted(verifier.authority.vouched))
    if verifier.certificates:
        states["certificates"] = [_certificate(one) for one in verifier.certificates]
    return Verdict(*of, states, tuple(verifier.items), tuple(verifier.roots))


def _sealed(name: str, raw: bytes, trusted: Sequence[str]) -> Verdict:
    """A single sealed document; who it is from decides what it can be."""
    if not trusted:
        return Verdict(name, "unknown", {}, (Item("authority-unknown", "no CA is known: give --trust ca.pem"),))
    authority: Authority = IndependentAuthority("".join(trusted))
    kind = exchange.read(raw, DEVICE_LIMITS.raised(len(raw))).operation
    if kind in messages.MESSAGES:
        signed = authority.device(raw)
        schemas.validate(signed.payload)
        return _message(name, messages.decode(signed.payload), signed)
    root, said = proof.read_root(raw, authority)
    if isinstance(said, TreeHead):
        return Verdict(name, "tree head", _head(said), (), (root,))
    return Verdict(name, "receipt", _receipt(said), (), (root,))


def _message(name: str, message: Message, signed: Signed) -> Verdict:
    header, sealed_at = message.header, format_utc_ms(signed.created_utc_ms)
    states = {"message_id": header.message_id, "sender": header.source, "signer": signed.signer, "sealed_at": sealed_at}
    other = Item(SourceMismatch.code, f"Source {header.source} was signed by {signed.signer}")
    return Verdict(name, "message", states, (other,) if signed.signer not in ("", header.source) else ())


def _head(head: TreeHead) -> dict[str, Any]:
    return {
        "bus": head.source,
        "partition": head.partition,
        "entries": head.size,
        "root": head.root.hex(),
        "made_at": format_utc_ms(head.made_at_utc_ms),
    }


def _certificate(one: Completeness) -> dict[str, Any]:
    period = {"from": format_utc(one.from_utc), "to": format_utc(one.to_utc)}
    return {"meter": one.meter, **period, "statement": completeness.told(one.counts)}


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "message_id": receipt.message_id,
        "sender": receipt.sender,
        "content_digest": receipt.content_digest.hex(),
        "recorded_at": format_utc_ms(receipt.recorded_at_utc_ms),
        "partition": receipt.position.partition,
        "seq": receipt.position.seq,
        "root_before": receipt.root_before.hex(),
        **receipt.counts._asdict(),
    }


def _compare(verdicts: Sequence[Verdict]) -> list[Item]:
    """Two roots of one log and one size: it was shown to two people in two ways."""
    seen: dict[tuple[int, int], tuple[bytes, str]] = {}
    items = []
    for verdict in verdicts:
        for root in verdict.roots:
            known, file = seen.setdefault((root.partition, root.size), (root.root, verdict.file))
            if known != root.root:
                reason = f"{file} and {verdict.file} have two roots for the first {root.size} entries"
                items.append(Item("past-rewritten", reason, f"partition {root.partition}"))
    return items


def _shown(one: Verdict) -> dict[str, Any]:
    findings = [_finding(item) for item in one.items]
    return {"file": one.file, "kind": one.kind, "ok": not findings, **one.states, "findings": findings}


def _finding(item: Item) -> dict[str, str]:
    return {"code": item.code, "reason": item.reason, "path": item.path}


def _told(verdicts: Sequence[Verdict], disagreements: Sequence[Item]) -> Iterator[str]:
    for one in verdicts:
        yield f"{one.file}: {one.kind}, {'DOES NOT HOLD' if one.items else 'holds'}"
        yield from (f"  {name.replace('_', ' ')}: {_plain(value)}" for name, value in one.states.items())
        yield from (f"  {item.path + ': ' if item.path else ''}{item.reason} [{item.code}]" for item in one.items)
    yield from (f"{item.path}: {item.reason} [{item.code}]" for item in disagreements)


def _plain(value: Any) -> str:
    """A value as a person reads it; heads one behind the other."""
    if not isinstance(value, list):
        return str(value)
    return "; ".join(", ".join(f"{name.replace('_', ' ')} {one[name]}" for name in one) for one in value)
