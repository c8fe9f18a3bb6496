"""The adversary of bills' proofs: has every entry of the log, recomputes every hash, lacks the private keys.

In: a `World`, a kind of forgery, a seed. Out: a proof file that is consistent but for what only a key can make, and
what a verifier has to name of it. Signatures are made in one of four ways (`STYLES`): the genuine receipts and tree
head are kept; the old SignatureValues are put around new content; everything is signed with keys of the forger's own
under the genuine certificates; or under a CA of his own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

import proof_world
from cryptography.hazmat.primitives.asymmetric import ec
from proof_world import Made, Told, World

from gridpost import (
    answers,
    bill_document,
    contract,
    exchange,
    leaf,
    merkle,
    messages,
    tariff_messages,
    testing,
    wssecurity,
)
from gridpost.applications import charges
from gridpost.bill_document import BillDocument
from gridpost.bill_proof import spans
from gridpost.document_messages import CreatedDocuments
from gridpost.envelope import shape
from gridpost.evidence import Exhibit
from gridpost.leaf import BlockRow, EntryRows, LeafParts
from gridpost.model import CreatedMeterReadings, Position
from gridpost.proof import Span
from gridpost.tariff import TariffProfile
from gridpost.wssecurity import KeySigner

KEPT, STALE, OWN_KEYS, OWN_CA = STYLES = ("kept", "stale signatures", "own keys", "own CA")
Named = tuple[str, str]  # code, and what its place contains


class Forgery(NamedTuple):
    """A file, and what has to be found in it."""

    done: str
    style: str
    raw: bytes
    named: Sequence[Named]


class Changed(NamedTuple):
    """What an entry is to say instead: its message, and its rows."""

    message: CreatedMeterReadings | CreatedDocuments
    rows: EntryRows


class Stale:
    """A signer that has no key: it puts the signature of another document around anything."""

    def __init__(self, genuine: bytes) -> None:
        envelope = shape(genuine, exchange.DEVICE_LIMITS.raised(len(genuine)))
        self.certificate, self.algorithm = envelope.certificate, wssecurity.ns.ECDSA_SHA256
        self._value = wssecurity.base64_octets(envelope.signature[1].text)

    def sign(self, data: bytes) -> bytes:
        return self._value


class Forger:
    """Makes files; everything but the keys of `world` is his."""

    def __init__(self, world: World) -> None:
        self.world, self.genuine = world, world.entries()
        self.at = {name: position.seq for name, position in world.at.items()}
        self.head = proof_world.tree_head(self.genuine, world.bus, world.now[0])
        self._ca = testing.ThrowawayCA(proof_world.CA_NAME)
        own = ec.generate_private_key(ec.SECP256R1())
        self._own_ca = self._ca.issue_bus(key=own), self._ca.issue_device("IED-1", key=own)
        self._own_keys = KeySigner(own, world.bus.certificate), KeySigner(own, world.device.certificate)

    def file(self, entries: Sequence[Made], document: BillDocument | None = None, style: str = KEPT) -> bytes:
        """A proof of what he says the log holds."""
        at = self.world.at["bill"]
        return self.written(entries, spans(document or self.world.document, at), style)

    def written(self, entries: Sequence[Made], wanted: Sequence[Span], style: str = KEPT) -> bytes:
        """The same, of chosen entries."""
        head, pem = self.head, self.world.ca.pem
        if style != KEPT:
            signer = Stale(self.head) if style == STALE else self._signers(style)[0]
            head = proof_world.tree_head(entries, signer, self.world.now[0])
        return proof_world.write(
            Told(entries, head, self._ca.pem if style == OWN_CA else pem), self.world.at["bill"], wanted
        )

    def forged(self, changes: Mapping[int, Changed], style: str) -> list[Made]:
        """The log with some entries saying something else, each hash of it right."""
        made: list[Made] = []
        frontier = merkle.Frontier()
        for seq, (kept, _) in enumerate(self.genuine):
            if seq in changes:
                kept = self._said_otherwise(kept, changes[seq], style)
            elif style == OWN_CA:
                kept = self._sealed_anew(kept, style)
            if style != KEPT:
                kept = kept._replace(receipt=self._receipt(kept, merkle.root(frontier), style))
            hashed = merkle.leaf_hash(leaf.encode_leaf(kept.parts))
            frontier, _ = merkle.append(frontier, hashed)
            made.append(Made(kept, hashed))
        return made

    def _signers(self, style: str) -> tuple[Any, Any]:
        return self._own_ca if style == OWN_CA else self._own_keys

    def _said_otherwise(self, kept: Exhibit, changed: Changed, style: str) -> Exhibit:
        payload = messages.encode(changed.message)
        evidence = self._sealed(kept, payload, style)
        rows = changed.rows
        parts = kept.parts._replace(
            content_sha256=sha256(payload).digest(),
            evidence_sha256=sha256(evidence).digest(),
            rows_sha256=leaf.rows_digest(rows),
        )
        return kept._replace(parts=parts, rows=rows, evidence=evidence)

    def _sealed_anew(self, kept: Exhibit, style: str) -> Exhibit:
        evidence = self._sealed(kept, messages.encode(said(kept)), style)
        return kept._replace(evidence=evidence, parts=kept.parts._replace(evidence_sha256=sha256(evidence).digest()))

    def _sealed(self, kept: Exhibit, payload: bytes, style: str) -> bytes:
        created = kept.rows.header.created_utc_ms
        if style in (KEPT, STALE):
            return exchange.seal(payload, Stale(kept.evidence), created)
        bus, device = self._signers(style)
        return exchange.seal(payload, bus if kept.parts.sender == "bus" else device, created)

    def _receipt(self, kept: Exhibit, root_before: bytes, style: str) -> bytes:
        """The receipt as it would be, were it signed."""
        parts, header = kept.parts, kept.rows.header
        said_before = answers.decode(shape(kept.receipt).payload)
        held = sum(row.values.count(",") + 1 for row in kept.rows.blocks) + len(kept.rows.documents)
        again = replace(
            said_before,
            content_digest=parts.content_sha256,
            references=self._references(kept),
            position=parts.position,
            root_before=root_before,
            counts=said_before.counts._replace(stored=held - said_before.counts.conflicting),
        )
        body = answers.encode_receipt(again, header.noun, "bus-1")
        signer = Stale(kept.receipt) if style == STALE else self._signers(style)[0]
        return exchange.seal(body, signer, parts.recorded_at_utc_ms)

    def _references(self, kept: Exhibit) -> Any:
        """What was digested in a message: its Body and Timestamp, whoever seals them."""
        payload, signer = messages.encode(said(kept)), self._own_ca[1]
        sealed = exchange.seal(payload, signer, kept.rows.header.created_utc_ms)
        return wssecurity.verify(
            shape(sealed, exchange.DEVICE_LIMITS.raised(len(sealed))), signer.certificate
        ).references


def said(kept: Exhibit) -> CreatedMeterReadings | CreatedDocuments:
    """The message of an entry."""
    return messages.decode(shape(kept.evidence, exchange.DEVICE_LIMITS.raised(len(kept.evidence))).payload)


# --- what is said otherwise ------------------------------------------------------------------------------------------


def with_value(kept: Exhibit, chance: random.Random) -> tuple[Changed, str]:
    """Another digit in one value of the message, and in its row."""
    row = chance.choice(list(kept.rows.blocks))
    values = list(leaf.parse_values(row.values))
    index = chance.randrange(len(values))
    end = row.first_interval_end_utc + index * row.interval_s
    other = another(values[index], chance)
    values[index] = other
    return _readings(kept, row, [row._replace(values=leaf.values_text(values))], {end: other}), f"{end} is {other}"


def with_interval_dropped(kept: Exhibit, chance: random.Random) -> tuple[Changed, str]:
    """The message and its row without their first or last interval."""
    row = chance.choice([one for one in kept.rows.blocks if "," in one.values])
    values = leaf.parse_values(row.values)
    qualities = leaf.parse_qualities(row.qualities, len(values))
    first = chance.random() < 0.5
    inner = slice(1, None) if first else slice(None, -1)
    end = row.first_interval_end_utc if first else row.last_interval_end_utc
    shorter = row._replace(
        first_interval_end_utc=row.first_interval_end_utc + first * row.interval_s,
        last_interval_end_utc=row.last_interval_end_utc - (not first) * row.interval_s,
        values=leaf.values_text(values[inner]),
        qualities=leaf.qualities_text(qualities[inner]),
    )
    return _readings(kept, row, [shorter], {end: None}), f"{end} is gone"


def _readings(kept: Exhibit, old: BlockRow, new: Sequence[BlockRow], values: Mapping[int, str | None]) -> Changed:
    message = said(kept)
    number = old.channel_id
    blocks = []
    for place, block in enumerate(message.readings.blocks):
        if (place + 1 if len(message.readings.blocks) > 1 else number) != number:
            blocks.append(block)
            continue
        whole = zip(block.ends_utc, block.values, block.qualities, strict=True)
        left = [(end, values.get(end, value), given) for end, value, given in whole if values.get(end, "") is not None]
        ends, texts, qualities = zip(*left, strict=True)
        blocks.append(replace(block, ends_utc=ends, values=texts, qualities=qualities))
    rows = [one for one in kept.rows.blocks if one is not old] + list(new)
    readings = replace(message.readings, blocks=tuple(blocks))
    return Changed(
        replace(message, readings=readings), kept.rows._replace(blocks=sorted(rows, key=lambda row: row.line))
    )


def with_content(kept: Exhibit, content: str) -> Changed:
    """An entry's document with another content, in the message and in its row."""
    message = said(kept)
    (document,), (row,) = message.documents, kept.rows.documents
    message = replace(message, documents=(document._replace(content=content),))
    return Changed(message, kept.rows._replace(documents=[row._replace(content=content)]))


def another(number: str, chance: random.Random) -> str:
    """A number with one digit changed, the same in length."""
    places = [index for index, digit in enumerate(number) if digit.isdigit()]
    at = chance.choice(places)
    return number[:at] + chance.choice([digit for digit in "0123456789" if digit != number[at]]) + number[at + 1 :]


# --- kinds -----------------------------------------------------------------------------------------------------------


def signatures(style: str, seq: int) -> list[Named]:
    """What is wrong with signatures and hashes when entry `seq` was changed in a style."""
    entry = f"entry 0:{seq}"
    named = [("evidence-changed", f"{entry} evidence")]
    if style == KEPT:
        return [*named, ("proof-broken", entry), ("entry-changed", f"{entry} content_sha256")]
    named += [("receipt-changed", f"{entry} receipt"), ("signature-invalid", "line 4")]
    return [*named, ("authority-unknown", "line 3")] if style == OWN_CA else named


def value(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """A value of a push, a correction or an estimate."""
    return _reading(forger, chance, style, with_value)


def interval(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """An interval left out."""
    return _reading(forger, chance, style, with_interval_dropped)


def _reading(
    forger: Forger, chance: random.Random, style: str, how: Callable[[Exhibit, random.Random], tuple[Changed, str]]
) -> Forgery:
    pushes = [position.seq for position in forger.world.pushes]
    seq = chance.choice([*pushes, *pushes, forger.at["correction"], forger.at["estimate"]])
    changed, done = how(forger.genuine[seq].kept, chance)
    entries = forger.forged({seq: changed}, style)
    done = f"entry 0:{seq}: {done}"
    return Forgery(done, style, forger.file(entries, style=style), signatures(style, seq))


def rows_only(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """A value in the rows and every hash of them; the device's message stays."""
    seq = chance.choice([position.seq for position in forger.world.pushes])
    changed, done = with_value(forger.genuine[seq].kept, chance)
    entries = forger.forged({}, KEPT)
    kept = entries[seq].kept
    kept = kept._replace(rows=changed.rows, parts=kept.parts._replace(rows_sha256=leaf.rows_digest(changed.rows)))
    entries[seq] = Made(kept, merkle.leaf_hash(leaf.encode_leaf(kept.parts)))
    named = [("rows-changed", f" 0:{seq}"), ("proof-broken", f"entry 0:{seq}")]
    return Forgery(f"rows only: entry 0:{seq}: {done}", KEPT, forger.file(entries), named)


def line(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """A line of the bill: its amount, or a quantity or price with the amount that follows; the total follows too."""
    document = forger.world.document
    lines = list(document.bill.lines)
    index = chance.randrange(len(lines))
    column = chance.choice(("amount", "quantity", "price"))
    old = lines[index]
    lines[index] = old._replace(**{column: Decimal(another(f"{getattr(old, column):f}", chance))})
    if column != "amount":
        rule = proof_world.tariffs(forger.world.month)[0].rounding
        amount = charges.rounded(lines[index].quantity * lines[index].price, rule)
        lines[index] = lines[index]._replace(amount=amount)
    content = bill_document.encode(replace(document, bill=replace(document.bill, lines=tuple(lines))))
    return _document(
        forger, ("bill", content), style, f"line {index} {column}", [("bill-wrong", f"bill lines/{index}/{column}")]
    )


def _document(forger: Forger, of: tuple[str, str], style: str, done: str, named: Sequence[Named]) -> Forgery:
    name, content = of
    seq = forger.at[name]
    entries = forger.forged({seq: with_content(forger.genuine[seq].kept, content)}, style)
    return Forgery(done, style, forger.file(entries, style=style), [*signatures(style, seq), *named])


def tariff(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """A price of a tariff; half of the time the bill follows it, so that the arithmetic is right again."""
    world = forger.world
    tariffs = list(proof_world.tariffs(world.month))
    which = chance.randrange(2)
    name = ("tariff", "next tariff")[which]
    day, night = tariffs[which].energy.periods
    cheaper = replace(day[0], price=Decimal(another(str(day[0].price), chance)))
    tariffs[which] = replace(tariffs[which], energy=TariffProfile(tariffs[which].energy.schedule, ((cheaper,), night)))
    content = tariff_messages.encode(tariffs[which])
    done = f"{name}: {cheaper.price} a kWh"
    if chance.random() < 0.5:
        return _document(forger, (name, content), style, done, [("bill-wrong", "bill lines/")])
    follows = proof_world.billed(world, proof_world.readings(world), tariffs)
    changes = {forger.at[name]: content, forger.at["bill"]: bill_document.encode(follows)}
    entries = forger.forged({seq: with_content(forger.genuine[seq].kept, text) for seq, text in changes.items()}, style)
    named = [one for seq in changes for one in signatures(style, seq)]
    return Forgery(f"{done}, and the bill follows", style, forger.file(entries, style=style), named)


def agreement(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The contract: what is sent out does not count, or it begins later."""
    seq = forger.at["contract"]
    agreed = contract.decode(forger.genuine[seq].kept.rows.documents[0].content)
    if chance.random() < 0.5:
        other, what = replace(agreed, channels=agreed.channels[:1]), "channels"
    else:
        other, what = replace(agreed, from_utc=agreed.from_utc + 86_400), "period"
    return _document(
        forger,
        ("contract", contract.encode(other)),
        style,
        f"contract {what}",
        [("bill-changed", f"entry 0:{seq} {what}")],
    )


def receipt(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The genuine receipt of another message."""
    entries = list(forger.genuine)
    wanted = [
        span.first + k
        for span in spans(forger.world.document, forger.world.at["bill"])
        for k in range(span.last + 1 - span.first)
    ]
    seq = chance.choice(wanted)
    other = chance.choice([index for index in range(len(entries)) if index != seq])
    entries[seq] = entries[seq]._replace(kept=entries[seq].kept._replace(receipt=entries[other].kept.receipt))
    columns = ("seq", "message_id", "content_sha256")
    named = [("entry-changed", f"entry 0:{seq} {column}") for column in columns]
    return Forgery(f"entry 0:{seq} with that of 0:{other}", KEPT, forger.file(entries), named)


# --- older versions --------------------------------------------------------------------------------------------------


def without_correction(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """A correction or an estimate is left out of the file; the bill still names it."""
    name = chance.choice(("correction", "estimate"))
    at = forger.world.at["bill"]
    seq = forger.at[name]
    wanted = [one for one in _single(spans(forger.world.document, at)) if one.first != seq]
    named = [("proof-incomplete", f"entry 0:{seq}"), ("proof-incomplete", "line 2 spans"), ("bill-wrong", "bill ")]
    return Forgery(f"{name} left out", KEPT, forger.written(forger.genuine, wanted), named)


def never_corrected(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The bill as it would be had the correction never come, written in the bill's place; consistent throughout."""
    world = forger.world
    older = proof_world.billed(world, proof_world.readings(world, [world.at["correction"]]))
    seq = forger.at["bill"]
    entries = forger.forged({seq: with_content(forger.genuine[seq].kept, bill_document.encode(older))}, style)
    raw = forger.file(entries, older, style)
    return Forgery("billed as if never corrected", style, raw, signatures(style, seq))


def older_tariff(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The genuine entry of an older version of the tariff, in the place of the one the bill names."""
    old, seq = forger.at["older tariff"], forger.at["tariff"]
    entries = list(forger.genuine)
    kept = entries[old].kept
    kept = kept._replace(parts=kept.parts._replace(position=Position(0, seq)))
    entries[seq] = Made(kept, merkle.leaf_hash(leaf.encode_leaf(kept.parts)))
    named = [("entry-changed", f"entry 0:{seq} seq"), ("proof-broken", f"entry 0:{seq}"), ("bill-wrong", "bill lines/")]
    return Forgery("older tariff under the newer one's number", KEPT, forger.file(entries), named)


def older_tariff_beside(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The older version of the tariff instead of the one the bill names: all of it genuine."""
    old, seq = forger.at["older tariff"], forger.at["tariff"]
    wanted = [
        one._replace(first=old, last=old) if one.first == seq else one
        for one in _single(spans(forger.world.document, forger.world.at["bill"]))
    ]
    named = [
        ("proof-incomplete", f"entry 0:{seq}"),
        ("proof-incomplete", f"entry 0:{old}"),
        ("proof-incomplete", "line 2 spans"),
    ]
    return Forgery("older tariff instead of the newer", KEPT, forger.written(forger.genuine, wanted), named)


def original_again(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """Under the correction's number: the message that it corrected, genuine, with its own rows."""
    seq, old = forger.at["correction"], chance.choice(forger.world.pushes).seq
    entries = list(forger.genuine)
    kept = entries[old].kept
    parts: LeafParts = kept.parts._replace(
        position=Position(0, seq), recorded_at_utc_ms=entries[seq].kept.parts.recorded_at_utc_ms
    )
    kept = kept._replace(parts=parts, receipt=entries[seq].kept.receipt)
    entries[seq] = Made(kept, merkle.leaf_hash(leaf.encode_leaf(parts)))
    named = [
        ("entry-changed", f"entry 0:{seq} content_sha256"),
        ("proof-broken", f"entry 0:{seq}"),
        ("bill-wrong", "bill "),
    ]
    return Forgery(f"entry 0:{seq} is what 0:{old} said", KEPT, forger.file(entries), named)


def later_data(forger: Forger, chance: random.Random, style: str) -> Forgery:
    """The bill names an entry that came after its data version."""
    document, later = forger.world.document, forger.world.at["later"]
    taken, sent = document.grounds.channels
    grounds = replace(document.grounds, channels=(taken._replace(entries=(*taken.entries, later)), sent))
    other = replace(document, grounds=grounds)
    seq = forger.at["bill"]
    entries = forger.forged({seq: with_content(forger.genuine[seq].kept, bill_document.encode(other))}, style)
    named = [*signatures(style, seq), ("bill-version", f"entry 0:{later.seq}")]
    return Forgery("names what came later", style, forger.file(entries, other, style), named)


def _single(wanted: Sequence[Span]) -> list[Span]:
    return [Span(one.partition, seq, seq) for one in wanted for seq in range(one.first, one.last + 1)]


KINDS: Mapping[str, Sequence[Callable[[Forger, random.Random, str], Forgery]]] = {
    "value": (value, value, rows_only),
    "interval": (interval,),
    "line": (line,),
    "tariff": (tariff, tariff, agreement),
    "receipt of another message": (receipt,),
    "older version": (
        without_correction, never_corrected, older_tariff, older_tariff_beside, original_again, later_data,
    ),
}  # fmt: skip


def forge(forger: Forger, seed: int, number: int) -> tuple[str, Forgery]:
    """Return forgery `number` of a seed and its kind; kinds and styles take turns."""
    chance = random.Random(seed << 32 | number)
    kinds = list(KINDS)
    kind = kinds[number % len(kinds)]
    made = chance.choice(KINDS[kind])(forger, chance, STYLES[number // len(kinds) % len(STYLES)])
    return kind, made
