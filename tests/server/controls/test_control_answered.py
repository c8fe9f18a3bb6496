"""An office asks a device for readings and finds them in its mailbox under the id of its request, known ones too."""

from __future__ import annotations

import json

import pytest
from control_office import CUSTOMER, UTILITY
from gridpost.adapters.cis.service import translated
from gridpost.adapters.cis.tables import Version
from gridpost.server.controls import answering
from test_control_follower import NOON, content, outcome, push, read

from gridpost import testing
from gridpost.model import CreatedMeterReadings, Header, Readings, RegisterReading

DAY = (("from", "2025-12-31T00:00:00Z"), ("to", "2026-01-01T00:00:00Z"))
DIAL = "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


@pytest.fixture
def asked(office):
    """Ask IED-1 for readings under the id q-1 and let it fetch that; give the control's mRID."""

    def ask(data=DAY) -> str:
        office.ask(office.wanted("q-1", "IED-1", action="request-data", output="", data=data))
        return json.loads(office.fetch("IED-1"))[1]

    return ask


def answered(office, partner=UTILITY):
    return [mail for mail in office.mails(partner) if mail.correlation_id == "q-1" and mail.noun == "MeterReadings"]


def values(mails):
    blocks = [block for mail in mails for block in content(mail).readings.blocks]
    return [(block.channel.meter, *pair) for block in blocks for pair in zip(block.ends_utc, block.values, strict=True)]


def test_what_is_sent_again_is_told_though_the_bus_had_it(office, asked, monkeypatch):
    signer = office.ied("IED-1")
    office.grant(UTILITY, "UP-IED-1", "billing", 0, NOON + 1800)
    office.grant(CUSTOMER, "UP-IED-1", "billing")
    read(office, "IED-1", signer, NOON, "1", "2", "3", "4")
    mrid = asked()
    office.follow()
    monkeypatch.setattr(answering, "OF_ONE_MAIL", 2)
    read(office, "IED-1", signer, NOON, "1", "2", "3", "4")  # all of it known: it makes no row
    assert office.follow().mails == 0
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done"))
    office.follow()
    mails = answered(office)
    # As far as the grant goes, no mail longer than it may be, and each with the request's id inside and out.
    assert values(mails) == [("IED-1", NOON, "1"), ("IED-1", NOON + 900, "2"), ("IED-1", NOON + 1800, "3")]
    assert {content(mail).header.correlation_id for mail in mails} == {"q-1"}
    assert len(mails) == 2
    assert answered(office, CUSTOMER) == []
    office.store.advance("controls", {}, {}, ()).result(timeout=30)
    office.follow()
    assert len(answered(office)) == 2, "read again from the first entry it is the same mail"


def test_a_register_read_now_answers_a_request_without_a_period(office, asked):
    signer = office.ied("IED-1")
    office.grant(UTILITY, "UP-IED-1", "billing")
    mrid, now = asked(()), office.post.now // 1000
    key = office.store.channels("IED-1")[0].key._replace(reading_type=DIAL)
    registers = tuple(RegisterReading(key, at, value) for at, value in ((now - 3600, "229"), (now, "231.5")))
    header = Header("created", "MeterReadings", office.post.now, "IED-1", "r-1", sequence=1)
    raw = testing.sealed(CreatedMeterReadings(header, Readings((), registers)), signer, office.post.now)
    assert office.post.receive(raw).status == 200
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done", at=office.post.now))
    office.follow()
    (mail,) = answered(office)
    assert [(one.time_utc, one.value) for one in content(mail).readings.registers] == [(now, "231.5")]
    # In MultiSpeak the request's id is the transaction's.
    (told,) = translated(mail.content, Version.V3)
    assert b"<transactionID>q-1</transactionID>" in told.content


@pytest.mark.parametrize("value", ["accepted", "failed", "unknown"])
def test_a_request_that_was_not_done_is_answered_with_no_readings(office, asked, value):
    signer = office.ied("IED-1")
    office.grant(UTILITY, "UP-IED-1", "billing")
    read(office, "IED-1", signer, NOON, "1")
    mrid = asked()
    push(office, "IED-1", signer, outcome("IED-1", mrid, 1, value))
    office.follow()
    assert answered(office) == []
