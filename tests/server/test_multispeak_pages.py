"""What a MultiSpeak caller may see comes in pages: each register once, counted, within the periods of its grants."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from gridpost.server.office import multispeak
from gridpost.server.office.multispeak import CallersOffice
from gridpost.server.office.rights import Rights
from gridpost.server.store import create, open_store

from gridpost import tabular, testing
from gridpost.controls import Role
from gridpost.errors import QueryRefused
from gridpost.model import Entry, Register, Rows
from gridpost.partners import Grant, Partner

DIAL = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
AT = 1_772_323_200
HEAD = "usage_point,meter,channel,reading_type,unit,interval_s,zone,valid_from\n"
PARTNER = Partner("P", "P", Role.UTILITY, "north")


@pytest.fixture
def office(tmp_path, monkeypatch):
    """An office that sees two meters, five registers each, of which two fall out of the grant for the second."""
    monkeypatch.setattr(multispeak, "PAGE", 2)
    create(tmp_path / "gridpost.db")
    store = open_store(tmp_path / "gridpost.db", lambda: (AT + 999) * 1000, serve=True)
    lines = [f"UP-{n},M{n},E1,{testing.FORWARD_KWH_15MIN},kWh,900,Etc/UTC,2020-01-01T00:00:00Z\n" for n in (1, 2, 3)]
    store.add_ied("IED-1", "revenue meter", bytes(10), tabular.channels((HEAD + "".join(lines)).encode()))
    store.set_tenants("IED-1", ["north"])
    store.add_partner(PARTNER)
    store.give(Grant("P", "UP-1", "billing"), Grant("P", "UP-2", "billing", AT + 1, AT + 4))
    ids = [channel.id for channel in store.channels("IED-1")]
    rows = tuple(Register(one, DIAL, AT + n, f"{one}.{n}", ()) for one in ids for n in range(1, 6))
    entry = Entry("IED-1", "m-1", "MeterReadings", "http", bytes(32), AT * 1000, None, "", b"<x/>")
    store.record(entry, Rows(registers=rows), lambda *stated: b"receipt").result()
    yield CallersOffice(SimpleNamespace(store=store, rights=Rights(store)), PARTNER)
    store.close()


def pages(ask):
    after, seen, left = "", [], []
    while True:
        page = ask(after)
        seen += [(one.channel.meter, one.time_utc - AT) for one in page.registers]
        left.append(page.remaining)
        if not page.remaining:
            return seen, left
        after = page.last


def test_each_register_once_and_how_many_are_left(office):
    seen, left = pages(lambda after: office.readings("", AT, AT + 99, after))
    assert seen == [("M1", n) for n in range(1, 6)] + [("M2", n) for n in range(2, 5)]
    assert left == [6, 4, 2, 0]


def test_a_period_has_both_its_ends_and_what_is_not_granted_is_not_there(office):
    assert pages(lambda after: office.readings("M1", AT + 2, AT + 3, after)) == ([("M1", 2), ("M1", 3)], [0])
    assert pages(lambda after: office.readings("M3", AT, AT + 99, after)) == ([], [0])
    assert [(one.channel.meter, one.time_utc - AT) for one in office.latest("M2")] == [("M2", 4)]
    with pytest.raises(QueryRefused):
        office.readings("", AT, AT + 99, "7")
