"""Is the log what it was? Recomputes everything that the store keeps as evidence and names what is not as it was.

In: a store, who is trusted, and anchors: signed heads or receipts from outside the store. Out: a `Result` with findings
(`errors.Item`), each with a stable code and a place. Without an anchor every change is found that its maker could not
sign for; whoever holds the bus's key can rewrite the past consistently, and only an anchor that he does not hold shows
it. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from gridpost import exchange, wssecurity
from gridpost.envelope import DEVICE_LIMITS, Envelope, shape
from gridpost.errors import EnvelopeShape, Item, PeerFault, SignatureInvalid
from gridpost.evidence import Authority, Signed, open_receipt
from gridpost.exchange import Trust, open_head
from gridpost.model import ChannelKey

from . import log_controls
from .log_walk import Claim, Known, Sink, Walk
from .store.archive import Archive, PartitionOnFile, mistyped

DAY_MS = 86_400_000
KEPT_DAYS = 400  # evidence may go after that, never before (DESIGN section 5)
MOST_FINDINGS = 10_000


class StoreAuthority:
    """Signatures by the house's own verifier; devices and partners are those whose certificates are on file."""

    def __init__(self, trust: Trust, senders: Mapping[bytes, str]) -> None:
        """`senders`: SHA-256 of a device's or partner's certificate -> whose it is."""
        self._trust, self._senders = trust, senders
        self._buses: set[bytes] = set()

    def bus(self, raw: bytes) -> Signed:
        """See `evidence.Authority`."""
        envelope = shape(raw)
        if envelope.certificate_sha256 not in self._buses:
            exchange.check_bus(envelope.certificate, self._trust)
            self._buses.add(envelope.certificate_sha256)
        signed = _verified(envelope, "")
        if not wssecurity.is_as_signed(envelope):
            raise EnvelopeShape(detail="bytes outside the signature")
        return signed

    def device(self, raw: bytes) -> Signed:
        """See `evidence.Authority`; partners' certificates are on file like devices'."""
        envelope = shape(raw, DEVICE_LIMITS.raised(len(raw)))
        sender = self._senders.get(envelope.certificate_sha256)
        if sender is not None:
            return _verified(envelope, sender)
        try:
            return self.bus(raw)  # sealed what a partner sent it without a signature
        except SignatureInvalid:
            raise SignatureInvalid(detail="no certificate of that fingerprint is on file") from None

    partner = device


def _verified(envelope: Envelope, signer: str) -> Signed:
    verified = wssecurity.verify(envelope, envelope.certificate)
    if not exchange.valid_at(envelope.certificate, verified.created_utc_ms):
        raise SignatureInvalid(detail="certificate is not valid at Created")
    return Signed(envelope.payload, signer, verified.created_utc_ms)


class Anchor(NamedTuple):
    """A head or a receipt from outside the store."""

    name: str
    partition: int
    claim: Claim


def read_anchor(name: str, raw: bytes, trust: Trust) -> Anchor:
    """Read a signed head or a receipt.

    Raises:
        PeerFault: it is neither, or not signed by a bus of that CA.
    """
    try:
        head = open_head(raw, trust)
    except PeerFault:
        receipt, _ = open_receipt(raw, StoreAuthority(trust, {}))
        claim = Claim(receipt.position.seq, receipt.root_before, name, receipt)
        return Anchor(name, receipt.position.partition, claim)
    return Anchor(name, head.partition, Claim(head.size, head.root, name))


class Walked(NamedTuple):
    """A partition as it was found; `root` is None when an entry is missing at its end."""

    number: int
    entries: int
    root: bytes | None


@dataclass(slots=True)
class Result:
    """What `check` found.

    Attributes:
        partitions: what was walked.
        evidence_gone: entries whose message is no longer kept, as is right after 400 days.
        heads: signed heads on file.
        anchors: names of anchors -> whether they hold.
        findings: up to MOST_FINDINGS.
        more: findings beyond these.
        notes: what devices say that does not fit, up to as many; a device may be mistaken, so it is no finding.
    """

    partitions: list[Walked] = field(default_factory=list)
    evidence_gone: int = 0
    heads: int = 0
    anchors: dict[str, bool] = field(default_factory=dict)
    findings: list[Item] = field(default_factory=list)
    more: int = 0
    notes: list[Item] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add_note(self, item: Item) -> None:
        """Take a note."""
        if len(self.notes) < MOST_FINDINGS:
            self.notes.append(item)

    def add(self, item: Item) -> None:
        """Take a finding."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(item)
        else:
            self.more += 1


class Against(NamedTuple):
    """What a log is held against: its entries, and its heads."""

    known: Known
    trust: Trust


def against(archive: Archive, channels: Mapping[int, ChannelKey], trust: Trust, now_utc_ms: int) -> Against:
    """Return what a store's log is held against.

    Args:
        archive: the store.
        channels: by number.
        trust: whose bus certificates are believed.
        now_utc_ms: the moment of the check.
    """
    authority: Authority = StoreAuthority(trust, senders(archive))
    return Against(Known(authority, channels, now_utc_ms - KEPT_DAYS * DAY_MS), trust)


def senders(archive: Archive) -> dict[bytes, str]:
    """Return SHA-256 of every device's and partner's certificate on file -> whose it is."""
    found = {row["sha256"]: row["serial"] for row in archive.certificates_on_file()}
    return found | {row["sha256"]: row["partner"] for row in archive.partner_certificates_on_file()}


def check(archive: Archive, held: Against, anchors: Sequence[Anchor], watch: Callable[[int, int], None]) -> Result:
    """Walk the whole log and everything that hangs on it; what is recorded meanwhile is not looked at.

    Args:
        archive: the store.
        held: see `against`.
        anchors: from outside the store.
        watch: told how many entries were walked and how many there are, now and then.
    """
    result = Result(anchors=dict.fromkeys((anchor.name for anchor in anchors), False))
    claims = _heads(archive, held.trust, result)  # before the sizes: a head made meanwhile must not seem too long
    for anchor in anchors:
        claims.setdefault(anchor.partition, []).append(anchor.claim)
    partitions = archive.partitions_on_file()
    progress = _Progress(watch, sum(partition.entries for partition in partitions))
    for partition in partitions:
        kept = _walk(archive, partition, (claims.pop(partition.number, []), held.known, progress), result)
        result.anchors.update((anchor.name, True) for anchor in anchors if anchor.claim in kept)
    for number, unmet in claims.items():
        for claim in unmet:
            result.add(Item("tail-cut", f"{claim.said_by} is of a partition that is not there", f"partition {number}"))
    for further in (_certificates, _strays, _extra_nodes, _outbox):
        further(archive, result)
    log_controls.check(archive, held.known.authority, result.add)
    return result


class _Progress:
    def __init__(self, watch: Callable[[int, int], None], total: int) -> None:
        self._watch, self._total, self._walked = watch, total, 0

    def __call__(self, count: int) -> None:
        self._walked += count
        self._watch(self._walked, self._total)


Task = tuple[Sequence[Claim], Known, Callable[[int], None]]


def _walk(archive: Archive, partition: PartitionOnFile, task: Task, result: Result) -> set[Claim]:
    claims, known, watch = task
    number, place = partition.number, f"partition {partition.number}"
    if not partition.tallies:
        result.add(Item("count-changed", "entries are of this partition, but it has no row", place))
    walk = Walk(archive, number, claims, known, Sink(result.add, result.add_note))
    for count in walk.run(partition.entries):
        watch(count)
    for column, counted in walk.tallies.items() if partition.tallies else ():
        if partition.tallies[column] != counted:
            reason = f"{column} is {partition.tallies[column]}, the rows are {counted}"
            result.add(Item("count-changed", reason, f"{place} {column}"))
    result.partitions.append(Walked(number, partition.entries, walk.root))
    result.evidence_gone += walk.gone
    return walk.kept


def _heads(archive: Archive, trust: Trust, result: Result) -> dict[int, list[Claim]]:
    """The heads on file, those that are as signed, as claims by partition."""
    claims: dict[int, list[Claim]] = {}
    for row in archive.heads_on_file():
        result.heads += 1
        place = f"tree_head {row['id']}"
        if wrong := mistyped("tree_head", row):
            result.add(Item("head-changed", f"{', '.join(wrong)} is not of its kind", place))
            continue
        try:
            head = open_head(row["signed"], trust)
        except PeerFault as error:
            result.add(Item("head-changed", f"the head is not what the bus signed ({error.detail})", f"{place} signed"))
            continue
        columns = {"partition": head.partition, "size": head.size, "root": head.root}
        for column, said in (columns | {"made_at_utc_ms": head.made_at_utc_ms}).items():
            if row[column] != said:
                result.add(Item("head-changed", f"{column} is not what the head says", f"{place} {column}"))
        claims.setdefault(head.partition, []).append(Claim(head.size, head.root, f"tree head {row['id']}"))
    return claims


def _certificates(archive: Archive, result: Result) -> None:
    kept = [("certificate", row) for row in archive.certificates_on_file()]
    kept += [("partner_certificate", row) for row in archive.partner_certificates_on_file()]
    for table, row in kept:
        place = f"{table} {row['sha256'].hex() if isinstance(row['sha256'], bytes) else row['sha256']}"
        if wrong := mistyped(table, row):
            result.add(Item("certificate-changed", f"{', '.join(wrong)} is not of its kind", place))
        elif sha256(row["der"]).digest() != row["sha256"]:
            result.add(Item("certificate-changed", "der has another SHA-256", f"{place} der"))


def _strays(archive: Archive, result: Result) -> None:
    for table, partition, seq, line in archive.strays_on_file():
        place = f"{table} {partition}:{seq}:{line}"
        result.add(Item("row-without-entry", "no such entry: it was deleted, or this row was put in", place))


def _extra_nodes(archive: Archive, result: Result) -> None:
    """Subtrees that no tree of that size has. Counted first, so that what is recorded meanwhile does no harm."""
    counts = archive.node_counts()
    sizes = {one.number: one.entries for one in archive.partitions_on_file()}
    for (number, level), (count, greatest) in sorted(counts.items()):
        allowed = sizes.get(number, 0) >> level if level >= 1 else 0
        if count > allowed or greatest >= allowed:
            place = f"log_node {number}:{level}:{greatest}"
            result.add(Item("tree-changed", "there is no such subtree in a tree of that size", place))


def _outbox(archive: Archive, result: Result) -> None:
    for number, digest, content in archive.outbox_on_file():
        if not isinstance(content, bytes) or sha256(content).digest() != digest:
            result.add(Item("file-changed", "the file waiting here is not that of its hash", f"outbox {number}"))
