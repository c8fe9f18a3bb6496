"""The reader that follows the log for policies: readings priced as they come, prices against limits, what to do then.

In: entries behind the cursor of the reader ``watch``, the clock, policies. Out: events in the log for what is wrong
(F55), and controls: proposed, or released where the policy says so (F56, F59, F62 to F65). Each finding and each
decision has a message id of its own, so a step that is taken again after a crash records nothing twice. What must not
be done here: sending anything: the desk gives an IED its control, mailboxes tell who is granted the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from gridpost import units
from gridpost.applications import limits, realtime
from gridpost.applications.calendar import Period, cycle_at
from gridpost.applications.determinants import ENERGY
from gridpost.applications.limits import Offer, Proposal
from gridpost.applications.realtime import Finding, Kind
from gridpost.controls import ACTIONS, Wanted
from gridpost.errors import GridpostError, PeerFault, StoreUnavailable
from gridpost.model import EndDeviceEvent
from gridpost.tariff import Tariff

from ..own import Bench
from . import deeds
from .contracts import Place, offers, place_of
from .policies import Watch

NAME = "watch"
BATCH = 100  # entries a step
PRICES_S = 60  # between two looks at prices: they change on the minute
_DAY_S = 86_400
_HISTORY_DAYS = 28  # what is usual is usual in four weeks
# Kind of finding -> EndDeviceEventType; the standard's full table is not public, so codes are data (docs/protocol.md).
EVENTS: Mapping[str, str] = {
    realtime.EXCESS: "3.8.0.93",
    realtime.SHORTAGE: "3.8.0.150",
    realtime.ANOMALY: "3.8.0.36",
}
_CUTS = ("shed", "reduce")  # what is restored when prices are within the limit again


class Outcome(NamedTuple):
    """What one step did.

    Attributes:
        entries: how many the cursor passed.
        findings: (contract, finding) of each that was put on file.
        decided: (contract, action, reason) of each control that was asked for.
        failed: (contract, code, reason) of each policy that could not be looked after; what goes on is told once.
    """

    entries: int = 0
    findings: tuple[tuple[str, Finding], ...] = ()
    decided: tuple[tuple[str, str, str], ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()


class Watcher:
    """The reader."""

    def __init__(self, bench: Bench, watches: Sequence[Watch]) -> None:
        """`bench`'s store serves; `watches` as loaded."""
        self._bench, self._watches = bench, watches
        self.stopping = False  # set when the bus stops: the present step is the last one
        self._priced_ms = 0
        self._places: dict[str, Place] = {}  # as they were when prices were looked at last
        self._told: set[tuple[str, str, str]] = set()  # of what failed at the last look at prices

    def begin(self) -> None:
        """Start behind what is there where this reader never ran: what is long past is nothing to act on.

        Raises:
            StoreUnavailable: try again.
        """
        self._bench.store.start_behind(NAME)

    def step(self, now_utc_ms: int) -> Outcome:
        """Take the next entries, look after what they touch, and after prices when a minute has passed.

        Raises:
            StoreUnavailable: the store fails; the next step begins where this one did.
        """
        store = self._bench.store
        version, kept = store.cursor(NAME)
        headers = store.entries(version, BATCH)
        prices_due = now_utc_ms - self._priced_ms >= PRICES_S * 1000
        if not headers and not prices_due:
            return Outcome()
        reached = {**version, **{header.position.partition: header.position.seq for header in headers}}
        touched = {block.channel_id for block in store.blocks([header.position for header in headers])}
        if prices_due:
            self._places.clear()
        work = _Work(self._bench, now_utc_ms, {name: dict(state) for name, state in _states(kept)}, self._places)
        for watch in self._watches:
            work.look_after(watch, touched, prices_due)
        if headers or work.states != dict(_states(kept)):
            store.advance(NAME, reached, {"watches": work.states}, ()).result()
        news = tuple(one for one in work.failed if one not in self._told)
        if prices_due:
            self._priced_ms, self._told = now_utc_ms, set()
        self._told.update(work.failed)
        return Outcome(len(headers), tuple(work.findings), tuple(work.decided), news)


def _states(kept: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What is kept of each contract: how far it was judged, what was decided last, which tariffs its IED knows."""
    states = kept.get("watches", {})
    assert isinstance(states, Mapping)
    yield from states.items()


class _Work:
    """One step."""

    def __init__(
        self, bench: Bench, now_utc_ms: int, states: dict[str, dict[str, Any]], places: dict[str, Place]
    ) -> None:
        self._bench, self._now_utc = bench, now_utc_ms // 1000
        self.states, self._places = states, places
        self._offered: list[Tariff] | None = None  # every tariff in force, once somebody asks
        self.findings: list[tuple[str, Finding]] = []
        self.decided: list[tuple[str, str, str]] = []
        self.failed: list[tuple[str, str, str]] = []

    def look_after(self, watch: Watch, touched: set[int], prices_due: bool) -> None:
        """Do what a policy asks; one that cannot be looked after is told, and holds up no other."""
        try:
            place = self._place(watch.contract)
            if touched & place.numbers:
                self._readings(watch, place)
            if prices_due and watch.prices is not None:
                self._prices(watch, place)
            if prices_due and watch.tell_tariff:
                self._tariffs(watch, place)
        except StoreUnavailable:
            raise
        except GridpostError as error:
            self.failed.append((watch.contract, error.code, error.reason))

    def _place(self, contract: str) -> Place:
        if contract not in self._places:
            self._places[contract] = place_of(self._bench.store, self._bench.zone_of, contract, self._now_utc)
        return self._places[contract]

    # --- readings ---

    def _readings(self, watch: Watch, place: Place) -> None:
        """Judge the cycle so far; what was judged before stays judged."""
        newest = place.newest_utc(self._bench.store)
        cycle = cycle_at(newest, place.zone, place.contract.cycle_day)
        state = self.states.setdefault(watch.contract, {})
        begins = max(cycle.from_utc, place.contract.from_utc)  # what was used before is another customer's
        since = max(begins, int(state.get("judged", 0)))
        if newest <= since:
            return
        found = place.measured(self._bench.store, Period(begins, newest, cycle.zone), watch.pulses)
        ticks = realtime.ticks(found, place.tariffs, cycle)
        of_like: Mapping[Kind, Decimal] = {}
        if watch.bounds.times_usual is not None:
            before = Period(since - _HISTORY_DAYS * _DAY_S, since, cycle.zone)
            history = place.measured(self._bench.store, before, watch.pulses)
            of_like = realtime.usual(history.by_measure[ENERGY], before)
        for finding in realtime.judge(ticks, watch.bounds, of_like, since):
            self._tell(watch, place, finding)
        state["judged"] = newest

    def _tell(self, watch: Watch, place: Place, finding: Finding) -> None:
        name = _id(watch.contract, finding.bound, str(finding.end_utc))
        reason = _words(finding, place.currency)
        details = {
            "contract": watch.contract, "kind": finding.kind, "bound": finding.bound, "value": f"{finding.value:f}",
            "limit": f"{finding.limit:f}", "unit": finding.unit or place.currency,
        }  # fmt: skip
        event = EndDeviceEvent(
            name, EVENTS[finding.kind], finding.end_utc * 1000, place.meter, reason, finding.kind, details
        )
        deeds.record_event(self._bench, event)
        self.findings.append((watch.contract, finding))
        action = watch.actions[finding.kind]
        if action:
            self._ask(watch, action, name, reason)

    # --- prices ---

    def _prices(self, watch: Watch, place: Place) -> None:
        """Hold what a kWh costs now against the limit in force now (F63 to F65)."""
        policy, now = watch.prices, self._now_utc
        assert policy is not None
        limit = limits.limit_at(policy.limits, now, place.zone)
        if self._offered is None:
            self._offered = offers(self._bench.store, now)
        offered = [one for one in self._offered if one.currency == place.currency]
        proposal = limits.propose(self._offers(place.tariffs), self._offers(offered), policy, limit.price)
        state = self.states.setdefault(watch.contract, {})
        cut = bool(state.get("cut", False))
        action = "restore" if proposal.action == "none" and cut else proposal.action
        decided = [action, *(proposal.suppliers if action == "switch-supplier" else ())]
        if decided == state.get("decided", ["none"]):
            return
        number = int(state.get("number", 0)) + 1
        if action != "none" and not (cut and action in _CUTS):
            reason = _why(action, proposal, place.currency)
            more = (("suppliers", " + ".join(proposal.suppliers)),) if action == "switch-supplier" else ()
            self._ask(watch, action, _id(watch.contract, str(number), *decided), reason, more)
        state |= {"decided": decided, "number": number, "cut": action in _CUTS or (cut and action != "restore")}

    def _offers(self, tariffs: Sequence[Tariff]) -> list[Offer]:
        """What each asks for a kWh now; one without a price now offers nothing."""
        now, zone_of = self._now_utc, self._bench.zone_of
        priced = ((one, limits.price_or_none(one, now, zone_of(one.zone))) for one in tariffs)
        return [Offer(one.supplier, one.kind, price) for one, price in priced if price is not None]

    def _tariffs(self, watch: Watch, place: Place) -> None:
        """Tell the IED when another tariff, or another version of it, comes into force (F62)."""
        state = self.states.setdefault(watch.contract, {})
        known, now = state.get("tariffs"), [_named(one) for one in place.tariffs]
        state["tariffs"] = now
        if known is not None and known != now:
            data = tuple((f"tariff {number}", named) for number, named in enumerate(now, 1))
            reason = f"in force now: {', '.join(now)}"
            self._ask(watch, "tariff-update", _id(watch.contract, "tariff", *now), reason, data)

    def _ask(self, watch: Watch, action: str, name: str, reason: str, data: tuple[tuple[str, str], ...] = ()) -> None:
        """Ask for a control; a person releases it, or the policy where it says so."""
        needs = ACTIONS[action]
        wanted = Wanted(
            name, action, (watch.device,), output=watch.output if needs.output else "",
            value=watch.level_kw if needs.unit else "", unit=needs.unit, reason=reason,
            data=(("contract", watch.contract), *data),
        )  # fmt: skip
        try:
            deeds.record_control(self._bench, wanted, released=watch.release)
        except PeerFault as error:  # no such IED: what was found stays found, and is not found again at each look
            self.failed.append((watch.contract, error.code, error.reason))
        else:
            self.decided.append((watch.contract, action, reason))


def _id(*names: str) -> str:
    """A message id made of what it is about: at most 64 characters, the same each time."""
    return f"watch-{sha256(chr(0).join(names).encode()).hexdigest()[:40]}"


def _named(tariff: Tariff) -> str:
    return f"{tariff.supplier}/{tariff.id} since {units.format_utc(tariff.valid_from_utc)}"


def _words(finding: Finding, currency: str) -> str:
    unit = finding.unit or currency
    end = units.format_utc(finding.end_utc)
    side = "below" if finding.value < finding.limit else "above"
    return f"{finding.kind}: {finding.value:f} {unit}, {side} {finding.limit:f} {unit}, in the interval that ends {end}"


def _why(action: str, proposal: Proposal, currency: str) -> str:
    who = " + ".join(proposal.suppliers)
    compared = "within" if action in ("restore", "switch-supplier") else "above"
    return f"a kWh from {who} costs {proposal.price:f} {currency}, {compared} the limit of {proposal.limit:f}"
