"""What became of a switch reaches customer information systems as CDStateChangedNotification, over real sockets."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import threading
import time
from pathlib import Path

import pytest
from control_office import CUSTOMER, UTILITY
from gridpost.adapters.cis import PartnerService
from gridpost.adapters.cis.parse import SwitchState, parse_notification
from gridpost.server.office.pushing import Pushes
from test_control_follower import outcome, push

from gridpost import testing
from gridpost.model import EndDeviceEvent

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def cis(office, partner, version):
    """Start the example CIS as the registered endpoint of a partner."""
    spec = importlib.util.spec_from_file_location("example_cis", ROOT / "examples/cis/cis.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    made = example.Cis(version)
    server = example.serve(made)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/multispeak"
    office.store.set_partner(partner._replace(endpoint=address, wsdl=f"{address}?wsdl"))
    yield made
    server.shutdown()
    server.server_close()


def carried(office) -> None:
    """Push until every mailbox is empty."""
    pushes = Pushes(office.store, lambda one: PartnerService(one.wsdl, one.endpoint), lambda: office.post.now)
    ends = time.monotonic() + 60
    while sum(office.store.depth(one.id) for one in (UTILITY, CUSTOMER)) or pushes._running:
        pushes.step()
        assert time.monotonic() < ends
        time.sleep(0.005)
    pushes.close()
    assert office.store.dead_letters() == []


def fetched(office, *tracking_ids: str) -> list[str]:
    office.ask(*(office.wanted(one, "IED-1", priority=n) for n, one in enumerate(tracking_ids)))
    return [json.loads(office.fetch("IED-1", after=n))[1] for n in range(len(tracking_ids))]


@pytest.mark.parametrize(("version", "why"), [("3", "shed failed: the relay is stuck"), ("4", "")])
def test_the_issuer_hears_where_the_switch_is(office, version, why):
    signer = office.ied("IED-1")
    with cis(office, UTILITY, version) as system:
        first, second = fetched(office, "t-1", "t-2")
        push(
            office, "IED-1", signer,
            outcome("IED-1", first, 1, "accepted"), outcome("IED-1", first, 1, "done", "opened"),
            outcome("IED-1", second, 2, "failed", "the relay is stuck"),
        )  # fmt: skip
        office.follow()
        carried(office)
    # Accepted says nothing of a switch yet: it stays an event of the meter, as all others do.
    assert system.calls == ["MeterEventNotification", *["CDStateChangedNotification"] * 2]
    _, done, failed = map(parse_notification, system.kept.values())
    assert done == SwitchState("IED-1", "Open", "t-1", "")
    assert failed == SwitchState("IED-1", "Unknown", "t-2", why)


def test_whoever_may_see_commands_hears_it_too_and_no_tracking_id_of_another(office):
    signer = office.ied("IED-1")
    other = office.ied("IED-2")
    for serial in ("IED-1", "IED-2"):
        office.grant(CUSTOMER, f"UP-{serial}", "commands")
    with cis(office, CUSTOMER, "3") as system:
        (mrid,) = fetched(office, "t-1")
        # Another IED's word on it, and a wrong counter, say nothing of any switch.
        push(office, "IED-2", other, outcome("IED-2", mrid, 1, "done", at=office.post.now))
        push(office, "IED-1", signer, outcome("IED-1", mrid, 2, "done", at=office.post.now))
        push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done", at=office.post.now))
        office.follow()
        office.store.set_partner(UTILITY)
        office.store.commit(UTILITY.id, len(office.mails(UTILITY)))
        carried(office)
    assert system.calls == ["MeterEventNotification", "MeterEventNotification", "CDStateChangedNotification"]
    assert parse_notification(list(system.kept.values())[-1]) == SwitchState("IED-1", "Open", "", "")


def test_of_an_ied_with_two_meters_nobody_can_tell_whose_switch_it_is(office):
    signer = office.ied("IED-1", testing.channel(meter="A"), testing.channel(meter="B"))
    with cis(office, UTILITY, "4") as system:
        (mrid,) = fetched(office, "t-1")
        push(office, "IED-1", signer, outcome("IED-1", mrid, 1, "done"))
        office.follow()
        carried(office)
    assert system.calls == ["MeterEventNotification"]
    (event,) = parse_notification(next(iter(system.kept.values())))
    assert isinstance(event, EndDeviceEvent)
    assert event.details["outcome"] == "done"
