"""A customer's month in a log, with real keys and signatures: what a bill's proof is made of, and what is done to it.

One meter in Paris, hourly, energy taken and sent out, March 2026 or the last days of it (clocks forward on the 29th).
A device pushes three days at a time; six hours never came and the bus estimates them; five hours are corrected; the
tariff changes in between. The log is a `MemoryStore`, its entries are made by the bus's own code. No clock is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gridpost.server.own import Bench, record_documents, record_readings
from gridpost.server.receipts import Recorded, receipt_maker, seal_answer
from gridpost.server.zones import zone_of

from gridpost import answers, bill_document, contract, exchange, heads, proof, tariff_messages, testing
from gridpost.applications import calendar
from gridpost.applications.bills import ESTIMATE, PARTIAL, Basis
from gridpost.applications.determinants import ENERGY, EXPORT, Metered
from gridpost.bill_document import BILL, BillDocument, Channel, Grounds, Part
from gridpost.bill_proof import render_start
from gridpost.bill_work import Found, work_out
from gridpost.check import check
from gridpost.codes import Quality
from gridpost.contract import Contract
from gridpost.current import Filed, FiledRun, current_readings
from gridpost.documents import BILL as BILLS
from gridpost.documents import CONTRACT, OURS, TARIFF, Document
from gridpost.envelope import shape
from gridpost.evidence import Exhibit
from gridpost.heads import TreeHead
from gridpost.leaf import EntryRows, HeaderRow
from gridpost.log import Planned
from gridpost.merkle import Frontier, append, inclusion_proof, root
from gridpost.model import Entry, Header, IntervalBlock, Position, Readings, Receipt
from gridpost.ports import CurrentReadings
from gridpost.proof import Span
from gridpost.tariff import Adjustment, Fixed, FlatDemand, Schedule, Tariff, TariffProfile, Tier
from gridpost.testing_store import MemoryStore
from gridpost.zone_offsets import offsets

ZONE = "Europe/Paris"
PARIS = ZoneInfo(ZONE)
HOLE, CORRECTED = range(30, 36), range(50, 55)  # hours of the period
HOUR_S, A_PUSH = 3600, 72
EXPORTED = "0.0.7.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"
IMPORTED = "0.0.7.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
SUPPLIER, TARIFF_ID, CONTRACT_ID, BILL_ID = "S1", "day-night", "C1", "C1-2026-03"
CA_NAME = "The bus's CA"


class Month(NamedTuple):
    """What is billed, and when the tariff changes."""

    period: calendar.Period
    change_utc: int


def month(first: int = 1, change: int = 16) -> Month:
    """March 2026 from a day on; the tariff changes on another."""
    begins, changes = (calendar.midnight(date(2026, 3, day), PARIS) for day in (first, change))
    return Month(calendar.Period(begins, calendar.midnight(date(2026, 4, 1), PARIS), PARIS), changes)


WHOLE, SHORT = month(), month(27, 30)


class Made(NamedTuple):
    """An entry as its keeper has it."""

    kept: Exhibit
    leaf: bytes


@dataclass
class World:
    """The log, and where in it stands what; `bus` and `device` sign."""

    ca: testing.ThrowawayCA
    bus: object
    device: object
    store: MemoryStore
    now: list[int]
    channels: Sequence[object]
    month: Month
    at: dict[str, Position] = field(default_factory=dict)
    pushes: list[Position] = field(default_factory=list)
    document: BillDocument | None = None

    @property
    def bench(self) -> Bench:
        return Bench(self.store, self.bus, "bus-1", lambda: self.now[0], zone_of, None)

    def entries(self) -> list[Made]:
        """Everything the keeper of the log has, in order."""
        return [Made(exhibit(one), one.leaf_hash) for one in self.store.entries_planned]


def exhibit(planned: Planned) -> Exhibit:
    """What the store keeps of an entry."""
    header = HeaderRow(*(getattr(planned.entry, name) for name in HeaderRow._fields))
    rows = EntryRows(header, planned.blocks, planned.events, planned.register_rows, planned.controls, planned.documents)
    return Exhibit(planned.parts, rows, planned.receipt, planned.entry.evidence)


class Told(NamedTuple):
    """What a proof says of a log, by whoever writes it."""

    entries: Sequence[Made]
    head: bytes
    authority: bytes


def write(told: Told, at: Position, wanted: Sequence[Span], bill: str = BILL_ID) -> bytes:
    """A bill's proof."""
    entries, head, authority = told
    level_0 = [made.leaf for made in entries]
    lines = [render_start(bill, at), proof.render_start(wanted), proof.render_authority(authority.decode())]
    lines.append(proof.render_head(head))
    for span in wanted:
        for seq in range(span.first, span.last + 1):
            path = inclusion_proof(seq, len(level_0), lambda level, number: subtree(level_0, level, number))
            lines.append(proof.render_entry(entries[seq].kept, path))
    return b"".join(lines)


def subtree(leaves: Sequence[bytes], level: int, number: int) -> bytes:
    """Root over 2 ** level leaves."""
    frontier = Frontier()
    for leaf in leaves[number << level : (number + 1) << level]:
        frontier, _ = append(frontier, leaf)
    return root(frontier)


def tree_head(entries: Sequence[Made], signer: object, made_at_utc_ms: int) -> bytes:
    """A signed head over all entries."""
    payload = heads.encode(
        TreeHead("bus-1", 0, len(entries), subtree([one.leaf for one in entries], 32, 0), made_at_utc_ms)
    )
    return exchange.seal(payload, signer, made_at_utc_ms)


# --- the customer's month --------------------------------------------------------------------------------------------


def build(of: Month = WHOLE) -> World:
    """Return the month, billed."""
    ca = testing.ThrowawayCA(CA_NAME)
    now = [(of.period.from_utc - 7 * 86_400) * 1000]
    store = MemoryStore(lambda: now[0])
    device = ca.issue_device("IED-1")
    taken = testing.channel(1, "M1", ZONE, interval_s=HOUR_S)
    wanted = [taken, testing.channel(2, "M1", ZONE, interval_s=HOUR_S)]
    wanted = [
        replace(one, key=one.key._replace(reading_type=kind))
        for one, kind in zip(wanted, (IMPORTED, EXPORTED), strict=True)
    ]
    world = World(ca, ca.issue_bus(), device, store, now, store.enrol("IED-1", device.certificate, wanted), of)
    _documents(world)
    _readings(world)
    _bill(world)
    return world


def _documents(world: World) -> None:
    change_utc, from_utc = world.month.change_utc, world.month.period.from_utc
    never = replace(tariff("0.08", "0.06"), valid_to_utc=change_utc)
    until, dearer = tariffs(world.month)
    for name, one in (("older tariff", never), ("tariff", until), ("next tariff", dearer)):
        content = tariff_messages.encode(one)
        document = Document(TARIFF, one.id, SUPPLIER, "", one.valid_from_utc, one.valid_to_utc, content)
        _own(world, name, document)
    agreed = Contract(
        id=CONTRACT_ID,
        customer="A. Customer",
        usage_point="UP-M1",
        channels=metered(),
        supplier=SUPPLIER,
        tariff=TARIFF_ID,
        kind="both",
        from_utc=from_utc,
        to_utc=None,
        zone=ZONE,
        cycle_day=1,
        status="confirmed",
        reason="",
    )
    _own(world, "contract", Document(CONTRACT, CONTRACT_ID, OURS, "UP-M1", from_utc, None, contract.encode(agreed)))


def _own(world: World, name: str, document: Document) -> None:
    receipt = record_documents(world.bench, f"own-{name.replace(' ', '-')}", "U. Clerk", [document])
    world.at[name] = receipt.position
    world.now[0] += 60_000


def metered() -> tuple[Metered, ...]:
    """What the contract counts."""
    return Metered("E1", ENERGY), Metered("M1/E2", EXPORT)


def tariffs(of: Month) -> tuple[Tariff, Tariff]:
    """The tariff until it changes, and from then on."""
    return (
        replace(tariff("0.28", "0.16"), valid_to_utc=of.change_utc),
        replace(tariff("0.30", "0.18"), valid_from_utc=of.change_utc),
    )


def tariff(day: str, night: str) -> Tariff:
    """Day (07 to 22) and night, the month's highest hour, a standing charge, a tax."""
    grid = (tuple(int(not 7 <= hour < 22) for hour in range(24)),) * 12
    return Tariff(
        id=TARIFF_ID,
        supplier=SUPPLIER,
        name="Day and night",
        currency="EUR",
        zone=ZONE,
        energy=TariffProfile(
            Schedule(grid, grid),
            ((Tier(Decimal(day), sell=Decimal("0.05")),), (Tier(Decimal(night), sell=Decimal("0.04")),)),
        ),
        metering="net-billing",
        flat=FlatDemand((0,) * 12, ((Tier(Decimal("4.10"), unit="kW"),),)),
        fixed=(Fixed("standing", Decimal("9.90")),),
        adjustments=(Adjustment("tax", "percent", Decimal(20)),),
    )


def value(index: int, sent: bool) -> str:
    """A reading: a whole pattern that repeats in no day, in Wh steps."""
    watt_hours = index * 104_729 % 700 if sent else index * 7919 % 2500
    return f"{watt_hours // 1000}.{watt_hours % 1000:03d}"


def _readings(world: World) -> None:
    ends = calendar.expected_ends(world.month.period, HOUR_S)
    for first in range(0, len(ends), A_PUSH):
        indexes = [i for i in range(first, min(first + A_PUSH, len(ends))) if i not in HOLE]
        world.now[0] = (ends[indexes[-1]] + 30) * 1000
        blocks = [
            IntervalBlock(
                one.key,
                HOUR_S,
                tuple(ends[i] for i in indexes),
                tuple(value(i, bool(which)) for i in indexes),
                ((),) * len(indexes),
            )
            for which, one in enumerate(world.channels)
        ]
        world.pushes.append(push(world, f"push-{first}", blocks))
    world.now[0] += 86_400_000
    block = _marked(world, [ends[i] for i in CORRECTED], ["9.125", "0.250", "0.5", "1.000", "2.750"], "2.7.1")
    world.at["correction"] = push(world, "correction", [block])
    estimates = [
        _marked(world, [ends[i] for i in HOLE], ["0.5"] * len(HOLE), "3.8.1", which) for which in (0, 1)
    ]  # fmt: skip
    world.at["estimate"] = record_readings(world.bench, "own-estimate", Readings(tuple(estimates))).position


def _marked(world: World, ends: Sequence[int], values: Sequence[str], quality: str, which: int = 0) -> IntervalBlock:
    qualities = ((Quality(quality, "a test's"),),) * len(ends)
    return IntervalBlock(world.channels[which].key, HOUR_S, tuple(ends), tuple(values), qualities)


def push(world: World, message_id: str, blocks: Sequence[IntervalBlock]) -> Position:
    """What a bus does with a message of a device."""
    message = testing.CreatedMeterReadings(
        Header("created", "MeterReadings", world.now[0], "IED-1", message_id, sequence=len(world.pushes) + 1),
        Readings(tuple(blocks)),
    )
    raw = testing.sealed(message, world.device, world.now[0])
    opened = exchange.open_(shape(raw), testing.enrolment(world.device, "IED-1", world.channels))
    rows = check(opened.message, world.channels, world.now[0], zone_of)
    entry = Entry(
        "IED-1", message_id, "MeterReadings", "http", opened.content_digest, opened.created_utc_ms,
        message.header.sequence, "", raw,
    )  # fmt: skip

    def answer(receipt: Receipt) -> bytes:
        return seal_answer(
            world.bus, answers.encode_receipt(receipt, "MeterReadings", "bus-1"), receipt.recorded_at_utc_ms
        )

    recorded = Recorded(message_id, "IED-1", opened.content_digest, opened.references)
    stored = world.store.record(entry, rows, receipt_maker(recorded, answer)).result()
    return answers.decode(shape(stored).payload).position


def _bill(world: World) -> None:
    world.document = billed(world, readings(world))
    period = world.month.period
    content = bill_document.encode(world.document)
    _own(world, "bill", Document(BILLS, BILL_ID, OURS, CONTRACT_ID, period.from_utc, period.to_utc, content))
    world.at["later"] = push(world, "later", [testing.block(world.channels[0], period.to_utc + HOUR_S, ["1.0"])])


def readings(world: World, without: Sequence[Position] = ()) -> dict[str, CurrentReadings]:
    """What is current when the bill is made, by the contract's names; `without`: as if some entries had not come."""
    planned = [
        one for one in world.store.entries_planned[: world.at["estimate"].seq + 1] if one.position not in without
    ]
    period = world.month.period
    found = {}
    for name, channel in zip(("E1", "M1/E2"), world.channels, strict=True):
        runs = [
            FiledRun(one.parts.recorded_at_utc_ms, one.position, run)
            for one in planned
            for run in one.runs
            if run.channel_id == channel.id
        ]
        found[name] = current_readings(channel, (period.from_utc, period.to_utc), Filed(runs, ()))
    return found


def billed(world: World, current: dict[str, CurrentReadings], of: Sequence[Tariff] = ()) -> BillDocument:
    """The bill of readings under the month's tariffs, or others."""
    period, change_utc = world.month.period, world.month.change_utc
    at = {0: world.at["estimate"].seq}
    halves = ((period.from_utc, change_utc, "tariff"), (change_utc, period.to_utc, "next tariff"))
    grounds = Grounds(
        at=at,
        contract=world.at["contract"],
        parts=tuple(
            Part(SUPPLIER, TARIFF_ID, world.at[which], start, end, Decimal("0.5")) for start, end, which in halves
        ),
        channels=tuple(
            Channel(one, each.id, each.key, each.unit, HOUR_S, tuple(sorted(set(current[one.channel].positions))))
            for one, each in zip(metered(), world.channels, strict=True)
        ),
        offsets=offsets(PARIS, period.from_utc, period.to_utc),
    )
    basis = Basis(BILL_ID, CONTRACT_ID, at, "tzdata 2026a", frozenset({ESTIMATE, PARTIAL}))
    return work_out(BILL, basis, grounds, Found(current, of or tariffs(world.month)))
