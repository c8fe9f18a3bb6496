"""Mailboxes pushed to partners: order, refusals, partners that are down, and MultiSpeak by a partner's own WSDL."""

from __future__ import annotations

import importlib.util
import threading
import time
from pathlib import Path

import pytest
from gridpost.adapters.cis import PartnerService
from gridpost.adapters.cis.parse import parse_notification
from gridpost.server.office.mailbox import forget_old
from gridpost.server.office.pushing import FIRST_MS, Pushes
from gridpost.server.store import DeadLetter, create, open_store

from gridpost import messages, testing
from gridpost.controls import Role
from gridpost.errors import PartnerRefused, PartnerUnreachable
from gridpost.model import EndDeviceEvent, Entry, Rows
from gridpost.partners import Partner
from gridpost.requests import Mail

ROOT = Path(__file__).parents[2]
AT = testing.NOW_UTC_MS


class Scripted:
    """A delivery that answers by what a test says, mail by mail."""

    def __init__(self):
        self.taken = []
        self.fails = {}  # name -> errors still to raise
        self.gate = threading.Event()
        self.gate.set()

    def deliver(self, name, content):
        assert self.gate.wait(60)
        if self.fails.get(name):
            raise self.fails[name].pop(0)
        self.taken.append((name, content))
        return "there"


class Setting:
    """A store, a clock, and deliveries by partner."""

    def __init__(self, path):
        create(path)
        self.now = AT
        self.store = open_store(path, lambda: self.now, serve=True)
        self.store.add_ied("IED-1", "", b"0123456789", [testing.channel()])
        entry = Entry("IED-1", "m-0", "MeterReadings", "http", bytes(32), 0, None, "", b"x")
        self.store.record(entry, Rows(), lambda *_: b"receipt").result(30)  # what the mails tell of
        self.to = {}
        self.pushes = Pushes(self.store, lambda partner: self.to[partner.id], lambda: self.now)
        self.line = 0

    def partner(self, partner_id, **changes):
        values = {"name": "", "role": Role.UTILITY, "tenant": "t", "endpoint": "http://x/", "wsdl": "w"} | changes
        self.store.add_partner(Partner(partner_id, **values))
        self.to[partner_id] = Scripted()
        return self.to[partner_id]

    def post(self, partner_id, *contents):
        mails = []
        for content in contents:
            self.line += 1
            mails.append(Mail(partner_id, "events", "EndDeviceEvents", content, line=self.line))
        self.store.post("controls", {0: 0}, {}, mails).result(30)

    def settle(self):
        """Step until every round that was begun has ended, and return what they told."""
        told, ends = [], time.monotonic() + 60
        while True:
            told += self.pushes.step()
            if not self.pushes._running:
                return told
            assert time.monotonic() < ends
            time.sleep(0.005)


@pytest.fixture
def setting(tmp_path):
    made = Setting(tmp_path / "gridpost.db")
    yield made
    for one in made.to.values():
        if isinstance(one, Scripted):
            one.gate.set()
    made.pushes.close()
    made.store.close()


def test_mails_are_pushed_in_order_once_and_the_place_is_that_of_the_mailbox(setting):
    one = setting.partner("one")
    setting.post("one", *(b"<a%d/>" % n for n in range(25)))
    told = setting.settle()
    assert [(sent.number, sent.place, sent.reason) for sent in told] == [(n, "there", "") for n in range(1, 26)]
    assert one.taken == [(f"one-{n + 1}", b"<a%d/>" % n) for n in range(25)]
    assert setting.store.depth("one") == 0
    assert setting.settle() == []
    setting.post("one", b"<fetched/>", b"<pushed/>")
    setting.store.commit("one", 26)  # by DequeueMailbox
    setting.settle()
    assert one.taken[25:] == [("one-27", b"<pushed/>")]


def test_a_partner_that_does_not_answer_keeps_its_mails_and_is_called_less_and_less_often(setting):
    one, other = setting.partner("one"), setting.partner("other")
    setting.post("one", b"<a/>", b"<b/>")
    one.fails["one-1"] = [PartnerUnreachable("down")] * 3
    waits = [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]
    for n, wait_ms in enumerate(waits):
        (sent,) = setting.settle()
        assert (sent.number, sent.kept, sent.reason) == (1, True, "partner-unreachable: down")
        setting.post("other", b"<x%d/>" % n)
        setting.now += wait_ms - 1
        assert [sent.partner for sent in setting.settle()] == ["other"]
        setting.now += 1
    assert [sent.number for sent in setting.settle()] == [1, 2]
    assert [name for name, _ in one.taken] == ["one-1", "one-2"]
    assert len(other.taken) == 3
    assert setting.store.dead_letters() == []
    one.fails["one-3"] = [PartnerUnreachable("down again")]
    setting.post("one", b"<c/>")
    setting.settle()
    setting.now += FIRST_MS  # it had answered since, so the first wait is a short one again
    assert [sent.place for sent in setting.settle()] == ["there"]


def test_a_partner_that_takes_some_and_fails_some_is_called_again_soon(setting):
    one = setting.partner("one")
    setting.post("one", *(b"<a%d/>" % n for n in range(6)))
    for n in range(2, 7):
        one.fails[f"one-{n}"] = [PartnerUnreachable("busy")]
    for n in range(1, 6):
        assert [(sent.number, sent.kept) for sent in setting.settle()] == [(n, False), (n + 1, True)]
        setting.now += FIRST_MS
    assert [(sent.number, sent.kept) for sent in setting.settle()] == [(6, False)]


def test_a_slow_partner_holds_nobody_else_up(setting):
    slow, other = setting.partner("slow"), setting.partner("other")
    slow.gate.clear()
    setting.post("slow", b"<a/>")
    setting.post("other", b"<b/>")
    ends = time.monotonic() + 60
    while not other.taken and time.monotonic() < ends:
        setting.pushes.step()
        time.sleep(0.005)
    assert (other.taken, slow.taken) == ([("other-1", b"<b/>")], [])
    slow.gate.set()
    setting.settle()
    assert slow.taken == [("slow-1", b"<a/>")]


def test_a_refused_mail_is_set_aside_and_sent_again_when_somebody_asks(setting):
    one = setting.partner("one")
    setting.post("one", b"<a/>", b"<b/>")
    one.fails["one-1"] = [PartnerRefused("no such meter")] * 2
    assert [(sent.number, sent.place, sent.reason) for sent in setting.settle()] == [
        (1, "", "partner-refused: no such meter"), (2, "there", ""),
    ]  # fmt: skip
    (letter,) = setting.store.dead_letters()
    assert (letter.reader, letter.subject, letter.reason) == ("push one", "1", "partner-refused: no such meter")
    for left in (1, 0):
        assert setting.settle() == []
        assert setting.store.retry_dead_letters() == 1
        setting.settle()
        assert len(setting.store.dead_letters()) == left
    assert one.taken == [("one-2", b"<b/>"), ("one-1", b"<a/>")]


def test_a_letter_of_a_mail_that_was_taken_after_all_goes_away(setting):
    """Killed between the letter and the commit; by the next life the partner takes the mail."""
    one = setting.partner("one")
    setting.post("one", b"<a/>", b"<b/>")
    setting.store.dead_letter(DeadLetter("push one", "1", "partner-refused: no such meter", AT)).result(30)
    setting.settle()
    assert [name for name, _ in one.taken] == ["one-1", "one-2"]
    assert setting.store.retry_dead_letters() == 0
    assert setting.settle() == []


def test_dead_letters_are_counted_and_one_whose_mail_is_gone_sends_no_other(setting):
    one = setting.partner("one")
    setting.post("one", b"<a/>", b"<b/>", b"<c/>")
    one.fails["one-2"] = [PartnerRefused("no such meter")]
    setting.settle()
    counted = {status.reader: status.dead_letters for status in setting.store.status().readers}
    assert counted == {"controls": 0, "push one": 1}
    with setting.store._keep() as connection:
        connection.exec_driver_sql("DELETE FROM mailbox WHERE number = 2")
    setting.store.retry_dead_letters()
    assert [(sent.number, sent.place, sent.kept) for sent in setting.settle()] == [(2, "", False)]
    assert [letter.reason[:9] for letter in setting.store.dead_letters()] == ["not-found"]
    assert [name for name, _ in one.taken] == ["one-1", "one-3"]


@pytest.mark.parametrize(("days", "left"), [(0, 2), (8, 2), (7, 1)])
def test_what_was_taken_long_ago_is_forgotten(setting, days, left):
    setting.partner("one")
    setting.post("one", b"<a/>")
    setting.now += 7 * 86_400_000 + 1
    setting.post("one", b"<b/>")
    setting.settle()
    forget_old(setting.store, lambda: setting.now, days)
    assert len(setting.store.peek("one", 9, 0)) == left


@pytest.mark.parametrize(
    "changes", [{"endpoint": ""}, {"wsdl": ""}, {"valid_to_utc_ms": AT}, {"valid_from_utc_ms": AT + 1}]
)
def test_nobody_else_is_called(setting, changes):
    one = setting.partner("one", **changes)
    setting.post("one", b"<a/>")
    assert setting.settle() == []
    assert (one.taken, setting.store.depth("one")) == ([], 1)


def test_a_changed_entry_is_called_at_its_new_place(setting):
    setting.partner("one")
    setting.post("one", b"<a/>")
    setting.settle()
    setting.to["one"] = moved = Scripted()
    setting.store.set_partner(Partner("one", "", Role.UTILITY, "t", endpoint="http://y/", wsdl="w"))
    setting.post("one", b"<b/>")
    setting.settle()
    assert moved.taken == [("one-2", b"<b/>")]


def test_a_partner_whose_wsdl_is_multispeak_gets_multispeak(setting):
    spec = importlib.util.spec_from_file_location("example_cis", ROOT / "examples/cis/cis.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    cis = example.Cis("4", user="gridpost", password="secret")
    server = example.serve(cis)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/multispeak"
    setting.partner("cis", endpoint=address, wsdl=f"{address}?wsdl")
    setting.to["cis"] = PartnerService(f"{address}?wsdl", address, access=(lambda: ("gridpost", "secret", "Co-op"), ""))
    event = EndDeviceEvent("", "3.26.0.85", AT, "M1", "power failed")
    readings = testing.readings_message("IED-1", "m-2", [testing.block(testing.channel(), AT // 1000, ["1.5"])])
    setting.post("cis", messages.encode(testing.events_message("bus", "m-1", [event])), messages.encode(readings))
    told = setting.settle()
    server.shutdown()
    server.server_close()
    assert [(sent.place, sent.reason) for sent in told] == [(address, "")] * 2
    assert cis.calls == ["MeterEventNotification", "IntervalDataNotification"]
    assert list(cis.kept) == ["cis-1.1", "cis-2.1"]
    assert parse_notification(cis.kept["cis-1.1"]) == (event,)
    assert parse_notification(cis.kept["cis-2.1"]) == readings.readings
