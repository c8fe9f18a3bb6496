"""What a store promises the office side, on each engine: partners and grants, controls from step to step, mailboxes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256

import pytest
from gridpost.server.store import DeadLetter, PartnerKey, create, open_store, page_of, upkeep
from gridpost.server.store.call_ins import CallIns, call_ins

from gridpost.controls import FINAL, Control, NewControl, Role, State, Step
from gridpost.errors import AlreadyExists, ConfigInvalid, GrantRefused, Internal, NotFound, SignerUnavailable
from gridpost.model import Block, Channel, ChannelKey, EndDeviceEvent, Entry, Position, Register, Rows
from gridpost.partners import Grant, Partner, Ways
from gridpost.requests import Mail

NOW = 1_800_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
UTILITY = Partner("U1", "North Grid", Role.UTILITY, "north", Ways(tls=True), "https://u1.example/in", "u1.wsdl", 5, 9)
SUPPLIER = Partner("S1", "Sun", Role.SUPPLIER, "south")


class Ticking:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Ticking()


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty store to copy."""
    path = tmp_path_factory.mktemp("empty") / "gridpost.db"
    create(path)
    return path


def _sqlite(request):
    target = request.getfixturevalue("tmp_path") / "gridpost.db"
    return shutil.copy(request.getfixturevalue("empty"), target)


@pytest.fixture(params=[_sqlite, lambda request: request.getfixturevalue("postgres_store")], ids=["sqlite", "postgres"])
def place(request):
    return request.param(request)


@pytest.fixture
def store(place, clock):
    store = open_store(place, clock, serve=True)
    yield store
    store.close()


@contextmanager
def another(place, clock):
    """A second process's view: on PostgreSQL it writes the log too, on SQLite it administers."""
    store = open_store(place, clock, serve=isinstance(place, str))
    yield store
    store.close()


def enrol(store, serial, usage_point="UP1", meter="M1", tenants=("north",)):
    channel = Channel(ChannelKey(usage_point, meter, "", KWH), "kWh", 900, "Etc/UTC")
    (made,) = store.add_ied(serial, "meter", b"0123456789", [channel])
    store.set_tenants(serial, tenants)
    return made


def wanted(target="IED1", tracking="t1", **fields):
    begun = {"state": State.WAITING, "by": "U1", "detail": "", "group": ""}
    begun |= {name: fields.pop(name) for name in list(fields) if name in begun}
    one = Control("", fields.pop("issuer", "U1"), "utility", tracking, fields.pop("action", "shed"), target, "load")
    return NewControl(one._replace(**{"expires_utc_ms": NOW + HOUR, **fields}), **begun)


def ask(store, *controls, message_id="m1", events=(), registers=()):
    entry = Entry(
        "U1", message_id, "EndDeviceControls", "office", sha256(message_id.encode()).digest(), 5, None, "", b"<x/>"
    )
    rows = Rows((), tuple(registers), tuple(events), tuple(controls))
    return store.record(entry, rows, lambda *stated: repr(stated).encode()).result(30)


def seal(control):
    return f"{control.mrid} #{control.counter} {control.tracking_id}".encode()


def fetch(store, *asked, now=NOW, make=seal, **more):
    found = store.fetch([one if isinstance(one, tuple) else (one, 0) for one in asked], make, now, **more).result(30)
    return {serial: sealed and sealed.decode() for serial, sealed in found.items()}


def states(store, mrid):
    return [step.state for step in store.control(mrid).steps]


# --- partners --------------------------------------------------------------------------------------------------------


def test_a_partner_is_kept_as_given(store):
    store.add_partner(UTILITY)
    store.add_partner(SUPPLIER)
    assert store.partner("U1") == UTILITY
    assert store.partner("S1") == SUPPLIER
    assert store.partner("U2") is None
    assert store.partners() == [SUPPLIER, UTILITY]
    assert store.partners("north") == [UTILITY]
    store.set_password("U1", "scrypt$1$x")
    changed = SUPPLIER._replace(id="U1", ways=Ways(signature=False, username=True, unsigned_commands=True))
    store.set_partner(changed)
    assert store.partner("U1") == changed
    assert store.password("U1") == "scrypt$1$x"
    assert [store.password(name) for name in ("S1", "U2")] == [None, None]
    store.set_password("U1", None)
    assert store.password("U1") is None
    for strange in (lambda: store.set_partner(UTILITY._replace(id="U2")), lambda: store.set_password("U2", "x")):
        with pytest.raises(NotFound, match="no partner U2"):
            strange()


def test_a_sender_is_a_partner_or_an_ied_never_both(store):
    enrol(store, "IED1")
    store.add_partner(UTILITY)
    for taken in (UTILITY, UTILITY._replace(id="IED1")):
        with pytest.raises(AlreadyExists):
            store.add_partner(taken)
    with pytest.raises(AlreadyExists, match="partner"):
        store.add_ied("U1", "meter", b"0123456789", [])
    assert store.partner("U1") == UTILITY


def test_a_certificate_is_one_senders_for_ever(store):
    enrol(store, "IED1")
    store.bind_certificate("IED1", b"c" * 32, b"of the IED")
    store.add_partner(UTILITY)
    store.add_partner(SUPPLIER)
    digest = store.add_partner_certificate("U1", b"of U1", "signature")
    assert digest == sha256(b"of U1").digest()
    other = store.add_partner_certificate("U1", b"for the wire", "tls")
    for der in (b"of U1", b"of the IED"):
        with pytest.raises(AlreadyExists):
            store.add_partner_certificate("S1", der, "signature")
    from gridpost.server.store import NewKey

    with pytest.raises(AlreadyExists, match="U1"):
        store.add_key("IED1", NewKey(b"of U1"))
    with pytest.raises(ConfigInvalid):
        store.add_partner_certificate("U1", b"x", "mail")
    with pytest.raises(NotFound):
        store.add_partner_certificate("U2", b"x", "tls")
    assert store.partner_of(digest) == PartnerKey(UTILITY, b"of U1", "signature", None)
    assert store.partner_of(sha256(b"of the IED").digest()) is None
    assert store.enrolment(digest) is None
    store.revoke_partner_certificate(digest, 77)
    store.revoke_partner_certificate(digest, 99)
    assert store.partner_of(digest).revoked_at_utc_ms == 77
    assert [one.der for one in store.partner_keys("U1")] == sorted(
        [b"of U1", b"for the wire"], key=lambda d: sha256(d).digest()
    )
    assert store.partner_of(other).use == "tls"
    with pytest.raises(NotFound):
        store.revoke_partner_certificate(b"x" * 32, 1)


# --- grants, tenants, groups -----------------------------------------------------------------------------------------


def test_a_grant_is_given_inside_the_tenant_only(store):
    mine = enrol(store, "IED1")
    enrol(store, "IED2", "UP2", "M2", ("south",))
    store.add_partner(UTILITY)
    billing = Grant("U1", "UP1", "billing", 100)
    for one in (Grant("U1", "UP2", "billing"), Grant("U1", "UP9", "billing"), Grant("U1", "UP1", "gossip")):
        with pytest.raises(GrantRefused):
            store.give(billing, one)
    assert store.grants("U1") == []  # all or none
    with pytest.raises(NotFound):
        store.give(Grant("U2", "UP1", "billing"))
    events = Grant("U1", "UP1", "events", 0, 500)
    store.give(events, billing)
    store.give(billing._replace(to_utc=900))
    assert store.grants("U1") == [billing._replace(to_utc=900), events]
    assert store.granted_channels("U1") == [(mine, billing._replace(to_utc=900)), (mine, events)]
    assert store.granted_channels("U1", ["UP2", "UP1"]) == store.granted_channels("U1")
    assert store.granted_channels("U1", ["UP2"]) == []
    assert store.granted_channels("S1") == []
    assert store.grants_on(["UP1", "UP2"]) == [billing._replace(to_utc=900), events]


def test_a_grant_sleeps_while_its_usage_point_is_in_another_tenant(store):
    enrol(store, "IED1")
    store.add_partner(UTILITY)
    grant = Grant("U1", "UP1", "billing")
    store.give(grant)
    store.set_tenants("IED1", ["south"])
    assert (store.granted_channels("U1"), store.grants_on(["UP1"])) == ([], [])
    assert store.grants("U1") == [grant]
    store.set_tenants("IED1", ["south", "north", "south"])
    assert len(store.granted_channels("U1")) == len(store.grants_on(["UP1"])) == 1
    store.set_partner(UTILITY._replace(tenant="west"))
    assert (store.granted_channels("U1"), store.grants_on(["UP1"])) == ([], [])


def test_a_grant_is_ended_never_widened(store):
    enrol(store, "IED1")
    store.add_partner(UTILITY)
    store.give(Grant("U1", "UP1", "billing", 100, 900), Grant("U1", "UP1", "events", 100))
    for at, ends in ((1000, 900), (500, 500), (700, 500), (0, 100)):
        store.take(Grant("U1", "UP1", "billing", 100), at)
        assert store.grants("U1")[0].to_utc == ends
    assert not any(store.grants("U1")[0].holds_at(utc) for utc in (99, 100, 101))
    assert store.grants("U1")[1].to_utc is None
    with pytest.raises(NotFound):
        store.take(Grant("U1", "UP1", "billing", 101), 5)


def test_tenants_and_groups(store):
    for number in (1, 2, 3):
        enrol(store, f"IED{number}", f"UP{number}", f"M{number}", ("north",) if number < 3 else ("south",))
    store.set_group("north", "east side", ["IED2", "IED1", "IED2"])
    assert store.group("north", "east side") == ("IED1", "IED2")
    assert store.group("south", "east side") == ()
    assert store.groups("north") == {"east side": 2}
    with pytest.raises(GrantRefused, match="IED3"):
        store.set_group("north", "east side", ["IED1", "IED3"])
    assert store.groups("north") == {"east side": 2}
    store.set_tenants("IED2", ["south"])
    assert store.group("north", "east side") == ("IED1",)
    assert (store.tenants("IED2"), store.tenants("IED9")) == (("south",), ())
    assert store.ieds_in("south") == ("IED2", "IED3")
    store.set_group("north", "east side", [])
    assert store.groups("north") == {}
    with pytest.raises(NotFound):
        store.set_tenants("IED9", ["north"])


def test_who_speaks_for_a_usage_point_or_meter(store):
    enrol(store, "IED1")
    enrol(store, "IED2", "UP1", "M2")
    assert store.ieds_of("UP1", 5) == ("IED1", "IED2")
    assert store.ieds_of("M2", 5) == ("IED2",)
    assert store.ieds_of("M9", 5) == ()


# --- controls: recorded ----------------------------------------------------------------------------------------------


def test_a_control_is_recorded_with_its_entry_and_its_first_step(store):
    full = wanted(
        value="12.50",
        unit="kW",
        not_before_utc_ms=7,
        need_by_utc_ms=8,
        priority=0,
        reason='"é',
        data=(("z", "1"), ("a", "2")),
        state=State.HELD,
        by="desk",
        detail="too many",
        group="east",
    )
    receipt = ask(store, full, wanted("IED2", "t2"))
    assert b"Counts(stored=2, known=0, conflicting=0)" in receipt
    one = store.control("0-0-0")
    assert one.control == full.control._replace(mrid="0-0-0")
    assert (one.group, one.position, one.state) == ("east", Position(0, 0), State.HELD)
    assert one.steps == (Step("0-0-0", State.HELD, NOW, "desk", "too many"),)
    assert store.control("0-0-1").steps == (Step("0-0-1", State.WAITING, NOW, "U1"),)
    assert ask(store, full, wanted("IED2", "t2")) == receipt
    assert len(store.controls()) == 2
    assert [store.control(name) for name in ("0-0-2", "1-0-0", "x", "0-0-01", "0-0-0 ")] == [None] * 5


def test_nothing_of_a_control_is_kept_without_a_receipt(store):
    def no_key(*_):
        raise SignerUnavailable

    mark = store.waiting_mark()
    entry = Entry("U1", "m", "EndDeviceControls", "office", b"d" * 32, 5, None, "", b"<x/>")
    with pytest.raises(SignerUnavailable):
        store.record(entry, Rows(controls=(wanted(),)), no_key).result(30)
    assert (store.controls(), store.waiting(["IED1"]), store.waiting_mark()) == ([], {}, mark)


def test_controls_are_found_by_who_asked_whom_and_how_they_stand(store):
    ask(store, wanted("IED1", "a"), wanted("IED2", "a", state=State.HELD), wanted("IED1", "b", issuer="S1"))
    ask(store, wanted("IED3", "c"), message_id="m2")

    def found(*args, **named):
        return [one.control.mrid for one in store.controls(*args, **named)]

    assert found() == ["0-0-0", "0-0-1", "0-0-2", "0-1-0"]
    assert found(limit=2) == ["0-0-0", "0-0-1"]
    assert found(limit=2, after="0-0-1") == ["0-0-2", "0-1-0"]
    assert found("U1") == ["0-0-0", "0-0-1", "0-1-0"]
    assert found(target="IED1") == ["0-0-0", "0-0-2"]
    assert found("U1", states={State.HELD, State.DONE}) == ["0-0-1"]
    assert found("U1", "IED2", {State.HELD}) == ["0-0-1"]
    assert found("S1", states={State.HELD, State.WAITING}) == ["0-0-2"]
    assert found("U1", states={State.WAITING}, after="0-0-0") == ["0-1-0"]
    assert found(states=()) == []
    assert [one.control.target for one in store.tracked("U1", "a")] == ["IED1", "IED2"]
    assert store.tracked("S1", "a") == []


# --- controls: going on ----------------------------------------------------------------------------------------------


def test_a_step_needs_the_state_it_expects(store):
    ask(store, wanted(state=State.PROPOSED))
    released = Step("0-0-0", State.WAITING, NOW + 1, "anna", "checked")
    assert store.step(released, {State.HELD}) is False
    assert store.step(released, {State.HELD, State.PROPOSED}) is True
    assert store.step(released, {State.HELD, State.PROPOSED}) is False
    assert store.control("0-0-0").steps[1:] == (released,)
    assert store.step(released._replace(control="0-9-0"), State) is False
    assert store.step(released._replace(control="nonsense"), State) is False


def test_of_two_first_persons_one_counts(store):
    ask(store, wanted(state=State.PROPOSED))
    first = [Step("0-0-0", State.PROPOSED, NOW, who) for who in ("anna", "otto")]
    assert [store.step(one, {State.PROPOSED}, seen=1) for one in first] == [True, False]
    assert store.step(first[1]._replace(state=State.WAITING), {State.PROPOSED}, seen=2) is True
    assert [step.by for step in store.control("0-0-0").steps] == ["U1", "anna", "otto"]


def test_of_many_that_step_one_control_one_wins(place, store, clock):
    ask(store, *(wanted(f"IED{n}", state=State.HELD) for n in range(5)))
    at_once = threading.Barrier(6)
    with another(place, clock) as second:

        def go(number):
            at_once.wait()
            chosen = State.WAITING if number % 2 else State.REFUSED
            return [
                (store, second)[number % 2].step(Step(f"0-0-{n}", chosen, NOW, f"p{number}"), {State.HELD})
                for n in range(5)
            ]

        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(go, range(6)))
    for n in range(5):
        assert [one[n] for one in won].count(True) == 1
        steps = store.control(f"0-0-{n}").steps
        assert [step.by for step in steps] == ["U1", f"p{[one[n] for one in won].index(True)}"]


def test_a_group_goes_on_in_one_transaction_or_not_at_all(store):
    ask(store, *(wanted(f"IED{n}", state=State.REFUSED if n == 2 else State.HELD) for n in range(4)))
    mark = store.waiting_mark()
    steps = [Step(f"0-0-{n}", State.WAITING, NOW, "anna") for n in (3, 2, 1, 0)]
    assert store.step_all(steps, {State.HELD}) == []
    assert [len(store.control(f"0-0-{n}").steps) for n in range(4)] == [1, 1, 1, 1]
    assert store.waiting_mark() == mark
    steps.pop(1)
    assert [one.control for one in store.step_all(steps, {State.HELD})] == ["0-0-0", "0-0-1", "0-0-3"]
    assert store.waiting_mark() != mark
    assert store.waiting([f"IED{n}" for n in range(5)]) == {"IED0": 1, "IED1": 1, "IED3": 1}


def test_the_mark_moves_when_something_begins_to_wait(place, store, clock):
    marks = [store.waiting_mark()]
    ask(store, wanted(), wanted("IED2", state=State.HELD))
    marks.append(store.waiting_mark())
    fetch(store, "IED1")
    ask(store, message_id="m2")
    marks.append(store.waiting_mark())
    assert marks[0] != marks[1] == marks[2]
    with another(place, clock) as second:
        assert second.step(Step("0-0-1", State.WAITING, NOW, "anna"), {State.HELD})
    marks.append(store.waiting_mark())
    ask(store, wanted("IED3", not_before_utc_ms=NOW + 3 * DAY, expires_utc_ms=NOW + 4 * DAY), message_id="m3")
    marks.append(store.waiting_mark())
    assert store.waiting(["IED3"]) == {}
    clock.now += 2 * DAY  # a day before it may be acted on, an IED is given it
    marks.append(store.waiting_mark())
    assert store.waiting(["IED3"]) == {"IED3": 1}
    assert len(set(marks)) == 5


def test_sums_count_what_was_released(store):
    cap = {"action": "reduce", "unit": "kW"}
    values = ("0.1", "0.2", "123456789012345678901234567890", "-1.50")
    ask(store, *(wanted(value=value, **cap) for value in values), wanted(value="7", state=State.HELD, **cap),
        wanted(value="9", issuer="S1", **cap), wanted(), wanted())  # fmt: skip
    assert store.sums("reduce", NOW, "U1") == (4, "123456789012345678901234567888.80")
    assert store.sums("reduce", NOW) == (5, "123456789012345678901234567897.80")
    assert store.sums("shed", NOW) == (2, "0")
    assert store.sums("reduce", NOW + 1) == (0, "0")
    store.step(Step("0-0-4", State.WAITING, NOW + 5, "anna"), {State.HELD})
    assert store.sums("reduce", NOW + 1) == (1, "7")
    store.step(Step("0-0-4", State.CANCELED, NOW + 6, "U1"), {State.WAITING})
    assert store.sums("reduce", NOW + 1) == (1, "7")


def test_what_no_ied_fetched_expires(store):
    late, early = NOW + HOUR, NOW + 5
    ask(store, wanted(expires_utc_ms=early), wanted("IED2", expires_utc_ms=early, state=State.HELD),
        wanted("IED3", expires_utc_ms=late), wanted("IED4", expires_utc_ms=early))  # fmt: skip
    fetch(store, "IED4")
    assert store.expire(NOW + 4).result(30) == []
    assert [step.control for step in store.expire(NOW + 5).result(30)] == ["0-0-0", "0-0-1"]
    assert store.expire(NOW + 6).result(30) == []
    assert states(store, "0-0-0") == [State.WAITING, State.EXPIRED]
    assert states(store, "0-0-3") == [State.WAITING, State.FETCHED]
    assert fetch(store, "IED1") == {"IED1": None}


# --- fetching --------------------------------------------------------------------------------------------------------


def test_a_fetch_gives_the_most_urgent_then_the_oldest_and_the_same_bytes_again(store, clock):
    ask(store, wanted(tracking="late", priority=5), wanted(tracking="urgent", priority=1))
    clock.now += 1
    ask(store, wanted(tracking="later", priority=5), message_id="m2")
    assert store.waiting(["IED1"]) == {"IED1": 3}
    given = []
    for after in (0, 0, 1, 2, 1, 0):
        given.append(fetch(store, ("IED1", after))["IED1"])
    assert given == ["0-0-1 #1 urgent"] * 2 + ["0-0-0 #2 late", "0-1-0 #3 later", "0-0-0 #2 late", "0-0-1 #1 urgent"]
    assert fetch(store, ("IED1", 3)) == {"IED1": None}
    assert [one.control.counter for one in store.controls()] == [2, 1, 3]
    assert store.control("0-0-1").steps[1:] == (Step("0-0-1", State.FETCHED, NOW, "IED1"),)
    assert store.waiting(["IED1"]) == {}
    store.step(Step("0-0-1", State.DONE, NOW, "IED1"), {State.FETCHED})
    assert fetch(store, ("IED1", 0)) == {"IED1": "0-0-0 #2 late"}  # the final one is passed over


def test_a_fetch_gives_nothing_that_is_not_for_now(store):
    ask(store, wanted(tracking="expired", expires_utc_ms=NOW), wanted(tracking="held", state=State.HELD),
        wanted(tracking="soon", not_before_utc_ms=NOW + 60), wanted("IED2", "theirs"))  # fmt: skip
    assert fetch(store, "IED1", lead_ms=59) == {"IED1": None}
    assert fetch(store, "IED1", lead_ms=60) == {"IED1": "0-0-2 #1 soon"}
    assert fetch(store) == {}


def test_counters_are_each_ieds_own(store):
    ask(store, *(wanted(f"IED{n % 2}", f"t{n}") for n in range(4)))
    assert fetch(store, "IED0", "IED1", "IED2") == {"IED0": "0-0-0 #1 t0", "IED1": "0-0-1 #1 t1", "IED2": None}
    assert fetch(store, ("IED0", 1), ("IED1", 0)) == {"IED0": "0-0-2 #2 t2", "IED1": "0-0-1 #1 t1"}
    assert fetch(store, ("IED0", 2), ("IED0", 0)) == {"IED0": "0-0-0 #1 t0"}


def test_a_counter_goes_on_from_what_the_device_knows(store):
    """A store put back from a backup has forgotten counters; a device obeys none that it has seen."""
    ask(store, wanted(), wanted(tracking="t2"))
    assert fetch(store, ("IED1", 7)) == {"IED1": "0-0-0 #8 t1"}
    assert fetch(store, ("IED1", 8)) == {"IED1": "0-0-1 #9 t2"}


def test_a_fetch_that_cannot_be_sealed_gives_nothing(store):
    def no_key(control):
        if control.target == "IED2":
            raise SignerUnavailable
        return seal(control)

    ask(store, wanted("IED1"), wanted("IED2", "t2"))
    with pytest.raises(SignerUnavailable):
        fetch(store, "IED1", "IED2", make=no_key)
    assert [one.state for one in store.controls()] == [State.WAITING] * 2
    assert fetch(store, "IED1", "IED2") == {"IED1": "0-0-0 #1 t1", "IED2": "0-0-1 #1 t2"}


def test_fetches_beside_releases_and_from_two_processes_give_each_control_once(place, store, clock):
    """Each IED is asked for by both at once, as a device that tries again elsewhere; persons release meanwhile."""
    ieds = [f"IED{n}" for n in range(6)]
    ask(
        store,
        *(wanted(ied, f"{ied}-{n}", state=State.HELD if n % 2 else State.WAITING) for ied in ieds for n in range(8)),
    )
    held = [one.control.mrid for one in store.controls(states={State.HELD})]
    with another(place, clock) as second:
        servers = [store, second if isinstance(place, str) else store]

        def device(number):
            known, ied = {}, ieds[number // 2]
            for _ in range(40):
                sealed = fetch(servers[number % 2], (ied, len(known)))[ied]
                if sealed is not None:
                    mrid, counter, _ = sealed.split(" ")
                    known.setdefault(int(counter[1:]), mrid)
            return ied, known

        def person():
            return [second.step(Step(mrid, State.WAITING, NOW, "anna"), {State.HELD}) for mrid in held]

        with ThreadPoolExecutor(13) as pool:
            releasing = pool.submit(person)
            found = list(pool.map(device, range(12)))
            assert all(releasing.result(60))
        whole = {ied: fetch_all(store, ied) for ied in ieds}
    for ied, known in found:
        assert known.items() <= whole[ied].items()
    for ied in ieds:
        assert sorted(whole[ied]) == list(range(1, 9))
        assert len(set(whole[ied].values())) == 8
    assert {one.state for one in store.controls()} == {State.FETCHED}


def fetch_all(store, ied):
    known = {}
    while (sealed := fetch(store, (ied, len(known)))[ied]) is not None:
        mrid, counter, _ = sealed.split(" ")
        known[int(counter[1:])] = mrid
    return known


def test_a_control_taken_back_while_it_is_fetched_is_one_or_the_other(place, store, clock):
    ask(store, *(wanted(f"IED{n}", f"t{n}") for n in range(20)))
    together = threading.Barrier(2)
    with another(place, clock) as second, ThreadPoolExecutor(2) as pool:

        def cancel():
            together.wait()
            return [second.step(Step(f"0-0-{n}", State.CANCELED, NOW, "U1"), {State.WAITING}) for n in range(20)]

        canceled = pool.submit(cancel)
        together.wait()
        given = fetch(store, *(f"IED{n}" for n in range(20)))
        canceled = canceled.result(60)
    for n in range(20):
        assert states(store, f"0-0-{n}")[1:] == [State.CANCELED if canceled[n] else State.FETCHED]
        assert (given[f"IED{n}"] is None) == canceled[n]


# --- mailboxes -------------------------------------------------------------------------------------------------------


def mail(partner="U1", kind="outcome", line=0, content=b"<a/>"):
    return Mail(partner, kind, "EndDeviceEvents", content, "c-1", 0, 0, line)


def numbered(store, partner="U1", **more):
    return [(one.number, one.kind, one.line) for one in store.peek(partner, 100, **more)]


@pytest.fixture
def offices(store):
    store.add_partner(UTILITY)
    store.add_partner(SUPPLIER)
    ask(store, wanted(), wanted("IED2", "t2"))
    return store


def test_mails_are_numbered_for_each_partner_and_taken_by_commit(offices, clock):
    posted = offices.post("controls", {0: 0}, {"a": 1}, [mail(), mail("S1"), mail(line=1)]).result(30)
    assert sorted(posted.mails) == [("S1", 1), ("U1", 1), ("U1", 2)]
    clock.now += 5
    offices.post("controls", {0: 1}, {"a": 2}, [mail(kind="expired", content=b"\x00\xff")]).result(30)
    assert offices.cursor("controls") == ({0: 1}, {"a": 2})
    assert numbered(offices) == [(1, "outcome", 0), (2, "outcome", 1), (3, "expired", 0)]
    assert offices.peek("U1", 1, after=2) == [
        mail(kind="expired", content=b"\x00\xff")._replace(made_at_utc_ms=NOW + 5, number=3)
    ]
    assert len(offices.peek("U1", 2)) == 2
    assert (offices.depth("U1"), offices.depth("S1"), offices.depth("U9")) == (3, 1, 0)
    assert offices.commit("U1", 2) == 2
    assert offices.commit("U1", 1) == 2
    assert numbered(offices) == [(3, "expired", 0)]
    assert numbered(offices, after=0)[0] == (1, "outcome", 0)
    assert (offices.depth("U1"), offices.depth("S1")) == (1, 1)
    for strange in (lambda: offices.commit("U1", 4), lambda: offices.commit("U9", 1)):
        with pytest.raises(NotFound):
            strange()
    assert offices.forget_mail(NOW + 5) == 2
    assert numbered(offices, after=0) == [(3, "expired", 0)]
    assert offices.peek("S1", 9) != []


def test_taken_mail_is_forgotten_by_its_age_a_thousand_at_once_but_for_dead_letters(offices, clock):
    offices.post("controls", {0: 0}, {}, [mail(line=n) for n in range(1002)]).result(30)
    clock.now += 5
    offices.post("controls", {0: 0}, {}, [mail(line=1002), mail("S1", line=9)]).result(30)
    offices.commit("U1", 1003)
    offices.dead_letter(DeadLetter("push U1", "2", "no", NOW)).result(30)
    offices.dead_letter(DeadLetter("push S1", "3", "no", NOW)).result(30)
    assert offices.forget_mail(NOW) == 0
    assert [offices.forget_mail(NOW + 5) for _ in range(3)] == [1000, 1, 0]
    assert [one.number for one in offices.peek("U1", 9, after=0)] == [2, 1003]
    offices.retry_dead_letters()
    assert offices.forget_mail(NOW + 6) == 1
    assert [one.number for one in offices.peek("U1", 9, after=0)] == [2]
    assert offices.peek("S1", 9) != []  # not taken
    offices.forget_dead_letters("push U1", ["2"]).result(30)
    assert offices.forget_mail(NOW + 6) == 1
    posted = offices.post("controls", {0: 0}, {}, [mail("U1", kind="new")]).result(30)
    assert posted.mails == (("U1", 1004),)


def test_the_same_mail_posted_twice_is_one(offices):
    fetch(offices, "IED1")
    steps = [Step("0-0-0", State.ACCEPTED, NOW, "IED1"), Step("0-0-1", State.DONE, NOW, "IED2")]
    first = offices.post("controls", {0: 0}, {}, [mail(), mail("S1")], steps).result(30)
    assert first.steps == (steps[0],)  # IED2 was given nothing
    again = offices.post("controls", {0: 0}, {}, [mail(content=b"<b/>"), mail(line=1)], steps).result(30)
    assert (again.mails, again.steps) == ((("U1", 2),), ())
    assert [one.content for one in offices.peek("U1", 9)] == [b"<a/>", b"<a/>"]
    done = Step("0-0-0", State.DONE, NOW, "IED1")
    assert offices.post("controls", {0: 0}, {}, [], [done]).result(30).steps == (done,)
    assert offices.post("controls", {0: 0}, {}, [], [done, steps[0]]).result(30).steps == ()
    assert states(offices, "0-0-0") == [State.WAITING, State.FETCHED, State.ACCEPTED, State.DONE]


def test_a_post_is_whole_or_not_at_all(offices):
    fetch(offices, "IED1")
    with pytest.raises(NotFound, match="U9"):
        offices.post("controls", {0: 0}, {}, [mail(), mail("U9")], [Step("0-0-0", State.DONE, NOW, "IED1")]).result(30)
    with pytest.raises(Internal):
        offices.post("controls", {0: 0}, {}, [mail(), mail()._replace(seq=99)]).result(30)  # of no entry
    assert (offices.cursor("controls"), offices.depth("U1")) == (({}, {}), 0)
    assert states(offices, "0-0-0")[-1] is State.FETCHED


def test_posts_from_many_threads_are_numbered_without_holes(place, offices, clock):
    with another(place, clock) as second, ThreadPoolExecutor(8) as pool:
        servers = [offices, second if isinstance(place, str) else offices]
        posts = [
            pool.submit(
                lambda n=n: servers[n % 2].post(f"r{n % 2}", {}, {}, [mail(line=n // 2), mail("S1", line=n)]).result(60)
            )
            for n in range(40)
        ]
        for post in posts:
            post.result(60)
    assert [one.number for one in offices.peek("U1", 100)] == list(range(1, 21))
    assert sorted(one.line for one in offices.peek("U1", 100)) == list(range(20))
    assert [one.number for one in offices.peek("S1", 100)] == list(range(1, 41))


KILLED = """
import os, signal, sys
from pathlib import Path
from gridpost.server.store import open_store
from gridpost.controls import State, Step
from gridpost.requests import Mail
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
store = open_store(place, lambda: 1_800_000_000_001, serve=True)
seal = lambda one: f"{one.mrid} #{one.counter}".encode()
sealed = store.fetch([("IED1", 0)], seal, 1_800_000_000_000).result(30)
mail = Mail("U1", "outcome", "EndDeviceEvents", b"<a/>", "", 0, 0, 0)
store.post("controls", {0: 0}, {}, [mail], [Step("0-0-0", State.ACCEPTED, 1, "IED1")]).result(30)
print(sealed["IED1"].decode(), flush=True)
def die(connection):
    fetched = [Step("0-0-1", State.FETCHED, 1, "IED2")]
    from gridpost.server.store import lives, mailbox
    assert lives.append(connection, fetched, None)
    list(mailbox._put(connection, [mail._replace(line=1)], 1))
    os.kill(os.getpid(), signal.SIGKILL)
store._do(die).result(30)
"""


def test_what_was_answered_survives_a_kill_and_what_was_not_left_no_trace(place, clock):
    store = open_store(place, clock, serve=True)
    store.add_partner(UTILITY)
    ask(store, wanted(), wanted("IED2", "t2"))
    store.close()
    command = [sys.executable, "-c", KILLED, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = open_store(place, clock, serve=True)
    assert fetch(store, "IED1", "IED2") == {"IED1": done.stdout.strip(), "IED2": "0-0-1 #1 t2"}
    assert states(store, "0-0-0") == [State.WAITING, State.FETCHED, State.ACCEPTED]
    assert numbered(store) == [(1, "outcome", 0)]
    store.close()


def test_an_older_schema_and_back_loses_no_command(place, clock):
    store = open_store(place, clock, serve=True)
    store.add_partner(UTILITY)
    ask(store, wanted(), wanted("IED2", "t2"))
    given, before = fetch(store, "IED1"), store.controls()
    store.close()
    upkeep.migrate(place, "0004")
    upkeep.migrate(place)
    store = open_store(place, clock, serve=True)
    assert (store.controls(), store.partner("U1")) == (before, UTILITY)
    assert fetch(store, "IED1", "IED2") == given | {"IED2": "0-0-1 #1 t2"}
    store.close()


# --- events and registers --------------------------------------------------------------------------------------------


def test_events_are_found_by_entry_and_by_device_page_by_page(store):
    channel = enrol(store, "IED1")
    events = [
        EndDeviceEvent("", f"3.26.0.{n}", NOW + n // 2, "M1" if n % 3 else "IED1", "r", "s", {"n": str(n)})
        for n in range(6)
    ]
    register = Register(channel.id, KWH, 1772323200, "7.0", ())
    ask(store, events=events, registers=[register])
    ask(store, events=events[:1], message_id="m2")
    assert [one.event for one in store.events_of([Position(0, 0)])] == events
    assert [(one.position, one.line, one.sender) for one in store.events_of([Position(0, 1), Position(0, 5)])] == [
        (Position(0, 1), 0, "U1")
    ]
    assert [(one.register, one.outcome) for one in store.registers_of([Position(0, 0), Position(0, 1)])] == [
        (register, "stored")
    ]
    pages, after = [], ""
    while page := store.events(["M1", "IED1"], (NOW - 1, NOW + 2), {0: 1}, 3, after):
        pages.append([(one.position.seq, one.line) for one in page])
        after = page_of(page[-1])
    assert pages == [[(0, 0), (0, 1), (1, 0)], [(0, 2), (0, 3), (0, 4)], [(0, 5)]]
    assert [one.line for one in store.events(["M1"], (NOW, NOW + 1), {0: 1}, 9)] == [2]
    assert len(store.events(["M1", "IED1"], (0, NOW + 9), {0: 0}, 9)) == 6
    assert store.events(["M1"], (0, NOW + 9), {}, 9) == []
    with pytest.raises(NotFound):
        store.events(["M1"], (0, NOW), {0: 1}, 9, "next")


def test_final_states_are_those_that_close(store):
    ask(store, *(wanted(f"IED{n}") for n, _ in enumerate(FINAL)))
    for n, state in enumerate(FINAL):
        assert store.step(Step(f"0-0-{n}", state, NOW, "x"), {State.WAITING})
    assert store.waiting([f"IED{n}" for n in range(9)]) == {}
    assert set(fetch(store, *(f"IED{n}" for n in range(6))).values()) == {None}


# --- what the reader of controls and persons ask for -----------------------------------------------------------------


def test_controls_are_found_by_the_entries_that_asked_for_them(store):
    for serial in ("IED1", "IED2"):
        enrol(store, serial, f"UP-{serial}", f"M-{serial}")
    ask(store, wanted(), wanted("IED2", "t1"), message_id="m1")
    ask(store, wanted(tracking="t2"), message_id="m2")
    ask(store, wanted(tracking="t3"), message_id="m3")
    found = store.controls_of([Position(0, 2), Position(0, 0), Position(0, 0), Position(0, 9)])
    assert [one.control.mrid for one in found] == ["0-0-0", "0-0-1", "0-2-0"]
    assert store.controls_of([]) == []


def test_what_waits_for_anybody_and_what_is_overdue(store, clock):
    enrol(store, "IED1")
    assert not store.any_waiting()
    far = NOW + 2 * DAY
    later = wanted(tracking="later", not_before_utc_ms=far + 10, expires_utc_ms=far + 20)
    ask(store, wanted(tracking="held", state=State.HELD, expires_utc_ms=NOW + 5), later)
    assert not store.any_waiting(), "one is held, the other is given a day before its time"
    clock.now = far - DAY + 10
    assert store.any_waiting()
    assert [one.control.tracking_id for one in store.overdue(NOW + 4)] == []
    assert [one.control.tracking_id for one in store.overdue(NOW + 5)] == ["held"]
    assert [one.control.tracking_id for one in store.overdue(far + 20)] == ["held", "later"]
    clock.now = far + 20
    assert not store.any_waiting(), "expired"
    store.expire(far + 20).result(30)
    assert store.overdue(far + 20) == []


def test_a_person_tells_of_what_went_on_and_of_nothing_else(store):
    enrol(store, "IED1")
    store.add_partner(UTILITY)
    ask(store, wanted(state=State.HELD), wanted(tracking="t2"))
    steps = [Step(f"0-0-{line}", State.WAITING, NOW, "Ann") for line in (0, 1)]
    mails = [Mail("U1", "step-waiting", "EndDeviceEvents", b"<x/>", f"t{line}", 0, 0, line) for line in (0, 1)]
    assert store.tell(steps, {State.HELD}, mails) == steps[:1], "the other one waited already"
    assert [(mail.number, mail.line) for mail in store.peek("U1", 9)] == [(1, 0)]
    with pytest.raises(NotFound):
        store.tell([Step("0-0-1", State.HELD, NOW, "Ann")], {State.WAITING}, [mails[1]._replace(partner="U9")])
    assert store.control("0-0-1").state is State.WAITING, "without its mail nothing is done"


def test_an_ieds_habits_are_known_by_its_rows(store):
    enrol(store, "IED1")
    (channel,) = store.channels("IED1")
    assert call_ins(store, "IED1", NOW // 1000) == CallIns()
    for number, (value, transport) in enumerate((("1.5", "http"), ("2", "mail"), ("2.5", "http"))):
        end = NOW // 900_000 * 900 + 900 * number
        block = Block(channel.id, 900, (end,), (value,), ((),))
        entry = Entry(
            "IED1",
            f"r{number}",
            "MeterReadings",
            transport,
            sha256(value.encode()).digest(),
            NOW + number,
            None,
            "",
            b"x",
        )
        store.record(entry, Rows((block,)), lambda *_: b"r").result(30)
    found = call_ins(store, "IED1", NOW // 1000)
    assert [created for _, created in found.calls] == [NOW + 2, NOW], "not what came by mail"
    assert found.power_kw == 10, "2.5 kWh in a quarter of an hour"
    assert call_ins(store, "IED9", NOW // 1000) == CallIns()
