"""Commands put in the place of others: all of them or, where an IED has one, none, and each of those is named."""

from __future__ import annotations

import asyncio

import pytest
from control_office import UTILITY
from gridpost.server.config import Config
from gridpost.server.office.callers import Hello
from gridpost.server.office.service import Parts, door_of
from lxml import etree

from gridpost import exchange, messages, testing
from gridpost.controls import State, Step
from gridpost.model import Header
from gridpost.requests import CancelEndDeviceControls, ChangeEndDeviceControls, CreateEndDeviceControls

HELLO = Hello("192.0.2.7:49152", "192.0.2.7")


@pytest.fixture
def door(office):
    """Send a message of the utility through the office's door; give code and the items' reasons of the answer."""

    async def aside(work):
        return work()

    signer = testing.ThrowawayCA().issue_device("NORTH")
    office.store.add_partner_certificate("NORTH", signer.certificate, "signature")
    post = office.post
    made = door_of(
        Parts(
            Config(post.folder), post.store, post.store, post.signer, post.clock, post.audit, post.worker, aside, aside
        )
    )

    def send(kind, verb, content):
        header = Header(verb, "EndDeviceControls", post.now, "NORTH", f"m-{next(office.numbers)}")
        raw = exchange.seal(messages.encode(kind(header, content)), signer, post.now)
        body = etree.fromstring(asyncio.run(made.receive(raw, HELLO)).body)
        code = (body.findtext(".//faultstring") or "ok").partition(":")[0]
        return code, [one.text for one in body.iter("{*}reason") if "(" in (one.text or "")]

    for serial in ("IED-1", "IED-2", "IED-3"):
        office.ied(serial)
        office.grant(UTILITY, f"UP-{serial}", "commands")
    asked = (office.wanted("a", "IED-1", "IED-2"), office.wanted("b", "IED-3"))
    assert send(CreateEndDeviceControls, "create", asked) == ("ok", [])
    send.office = office
    return send


def states(office) -> list[str]:
    """Of the six there may be, in the log's order."""
    return [one.state.value for one in office.store.controls(limit=10)]


def replaced(door):
    office = door.office
    others = (office.wanted("a", "IED-1", "IED-2", action="restore"), office.wanted("b", "IED-3", action="restore"))
    return door(ChangeEndDeviceControls, "change", others)


def test_all_are_replaced(door):
    assert replaced(door) == ("ok", [])
    assert states(door.office) == ["canceled"] * 3 + ["waiting"] * 3


def test_where_one_was_fetched_none_is_replaced_and_each_that_moved_is_named(door):
    office = door.office
    office.fetch("IED-2")
    office.fetch("IED-3")
    code, items = replaced(door)
    assert code == "control-moved"
    assert [item.split(" ")[0] + item[item.index(")") + 1 :] for item in items] == ["a is fetched", "b is fetched"]
    assert states(office) == ["waiting", "fetched", "fetched"]


@pytest.mark.parametrize("ask", ["change", "cancel"])
def test_a_fetch_between_the_look_and_the_cancel_leaves_all_as_they_are(door, monkeypatch, ask):
    office = door.office
    step_all = office.store.step_all

    def late(steps, expected):
        assert office.store.step(Step("0-0-2", State.FETCHED, office.post.now, "IED-3"), {State.WAITING})
        return step_all(steps, expected)

    monkeypatch.setattr(office.store, "step_all", late)
    code, items = replaced(door) if ask == "change" else door(CancelEndDeviceControls, "cancel", ("a", "b"))
    assert (code, len(items)) == ("control-moved", 1)
    assert items[0].startswith("b (0-0-2) is fetched")
    assert states(office) == ["waiting", "waiting", "fetched"]
