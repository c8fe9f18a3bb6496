"""Keys, lists, factors, ends and alarms on both engines; and what a store of an older schema becomes."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256

import psycopg
import pytest
from gridpost.server.enrolment import DeviceCA, Subject, make_ca
from gridpost.server.store import NewKey, Renewal, open_store, upkeep
from gridpost.server.trust_keeper import issue

from gridpost import testing
from gridpost.conditions import Conditions
from gridpost.errors import AlreadyExists, EnrolmentRefused, NotFound, StoreUnavailable

from .foreign_ca import DER, MADE, NOW, ForeignCA

DAY = 86_400_000


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path, empty_store):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_store")
    return shutil.copy(empty_store, tmp_path / "gridpost.db")


def sql(place, statement, *values):
    if isinstance(place, str):
        with psycopg.connect(place) as connection:
            done = connection.execute(statement.replace("?", "%s"), values)
            return done.fetchall() if done.description else []
    with sqlite3.connect(place) as connection:
        return connection.execute(statement, values).fetchall()


CA = DeviceCA(*make_ca("CA of a test", MADE))


def certificate(days=3650):
    key = testing.ThrowawayCA().issue_device("IED-1")._key
    return CA.issue(Subject("IED-1", 0, days=days), key.public_key(), MADE).public_bytes(DER)


@pytest.fixture
def store(place):
    opened = open_store(place, lambda: NOW, serve=True)
    opened.add_ied("IED-1", "revenue meter", bytes(10), [testing.channel()])
    yield opened
    opened.close()


def digest(der):
    return sha256(der).digest()


def conditions(store, der):
    return store.enrolment(digest(der)).conditions


def test_a_key_has_conditions_only_where_something_was_set(store):
    first, second = certificate(), certificate()
    store.bind_certificate("IED-1", b"1" * 32, first)
    store.add_key("IED-1", NewKey(second, "billing", ["readings"]))
    assert conditions(store, first) is None
    assert conditions(store, second) == Conditions(rights=frozenset({"readings"}))
    store.set_factor("IED-1", "hours", "06:00-18:00")
    assert conditions(store, first) == Conditions(factors=(("hours", "06:00-18:00"),))
    store.set_factor("IED-1", "hours", None)
    store.set_rights("IED-1", digest(second), None)
    assert conditions(store, first) is conditions(store, second) is None


def test_a_key_of_a_foreign_ca_is_due_when_its_list_is(store):
    foreign = ForeignCA()
    der = foreign.certify("IED-1").public_bytes(DER)
    store.add_key("IED-1", NewKey(der, issuer_sha256=digest(foreign.der)))
    assert conditions(store, der).crl_due_utc_ms == 0
    store.import_crl(foreign.read(foreign.crl(1)))
    assert conditions(store, der).crl_due_utc_ms == NOW + 7 * DAY


def test_a_certificate_is_one_devices_key_only(store):
    store.add_ied("IED-2", "PLC", bytes(10), [testing.channel(2, meter="M2")])
    der = certificate()
    store.add_key("IED-1", NewKey(der))
    for serial in ("IED-1", "IED-2"):
        with pytest.raises(AlreadyExists, match="IED-1"):
            store.add_key(serial, NewKey(der))


def test_what_is_not_there_is_told(store):
    for change in (
        lambda: store.add_key("IED-9", NewKey(certificate())),
        lambda: store.set_rights("IED-1", bytes(32), None),
        lambda: store.revoke_key("IED-1", bytes(32), NOW),
        lambda: store.set_factor("IED-9", "hours", "06:00-18:00"),
        lambda: store.set_factor("IED-1", "hours", None),
        lambda: store.factors("IED-9"),
    ):
        with pytest.raises(NotFound):
            change()
    store.revoke("IED-1", NOW)
    with pytest.raises(NotFound, match="revoked"):
        store.add_key("IED-1", NewKey(certificate()))


def test_of_many_renewals_at_once_one_successor_stands(store):
    old, candidates = certificate(), [certificate() for _ in range(8)]
    store.bind_certificate("IED-1", b"1" * 32, old)

    def renew(number):
        asked = Renewal(digest(old), bytes([number % 2]) * 32, candidates[number], DAY)
        try:
            return number % 2, store.renew("IED-1", asked)
        except (EnrolmentRefused, StoreUnavailable):
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = {answer for answer in pool.map(renew, range(8)) if answer}
    assert len(answers) == 1, "one request won, and all who made it have the same certificate"
    assert len(store.show_ied("IED-1").certificates) == 2


def test_of_many_lists_made_at_once_none_has_anothers_number(store):
    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(made.number for made in pool.map(lambda _: issue(store, CA, NOW, 7), range(8)))
    assert numbers == list(range(1, 9))
    assert [one.number for one in store.crls()] == [8]


def test_ends_and_steps(store):
    ders = [certificate(days) for days in (5, 20, 50, 100)]
    for number, der in enumerate(ders):
        store.add_key("IED-1", NewKey(der, f"key {number}"))
    steps = {days: NOW + days * DAY for days in (0, 7, 30, 60)}
    assert [one.sha256 for one in store.untold(steps, 10)] == [digest(der) for der in ders[:3]]
    store.note_told({digest(ders[0]): 7, digest(ders[1]): 60})
    assert [one.sha256 for one in store.untold(steps, 10)] == [digest(der) for der in ders[1:3]]
    assert [one.told_days for one in store.ending(NOW + 60 * DAY, 2)] == [7, 60]
    assert [store.count_ending(NOW + days * DAY) for days in (0, 7, 30, 60, 200)] == [0, 1, 2, 3, 4]


def test_alarms_add_up(store):
    store.add_alarms({"networks-at-once": 2}).result(30)
    store.add_alarms({"networks-at-once": 1, "second-key": 5}).result(30)
    assert [tuple(one) for one in store.alarms()] == [("networks-at-once", 3, NOW), ("second-key", 5, NOW)]


def test_an_older_schema_restricts_no_key_so_going_back_ends_those_that_are(place, store):
    """Up again every certificate has its end back; what was restricted stays out until it is enrolled anew."""
    plain, bound, replaced = (certificate(days) for days in (100, 200, 300))
    store.bind_certificate("IED-1", b"1" * 32, plain)
    store.add_key("IED-1", NewKey(bound, "billing", ["readings"]))
    store.add_key("IED-1", NewKey(replaced))
    store.renew("IED-1", Renewal(digest(replaced), b"2" * 32, certificate(400), 5 * DAY))
    store.close()
    upkeep.migrate(place, "0003")
    found = dict(sql(place, "SELECT sha256, revoked_at_utc_ms FROM certificate"))
    assert [found[digest(der)] for der in (plain, bound, replaced)] == [None, NOW, NOW + 5 * DAY]
    upkeep.migrate(place)
    again = open_store(place, lambda: NOW)
    held = {one.sha256: one for one in again.show_ied("IED-1").certificates}
    ends = [held[digest(der)].not_after_utc_ms for der in (plain, bound, replaced)]
    assert ends == [NOW + days * DAY for days in (100, 200, 300)]
    assert again.enrolment(digest(plain)).conditions is None
    again.close()


def test_the_clock_of_a_list_is_exact(store):
    made = issue(store, CA, NOW + 123, 7)
    assert made.this_update_utc_ms == NOW + 123
    assert made.next_update_utc_ms == NOW + int(timedelta(days=7).total_seconds()) * 1000
