"""gridpost control: what persons see and decide of commands, beside a store that another process may serve."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from control_office import UTILITY
from gridpost.server import config as configuration
from gridpost.server.commands import control as module
from gridpost.server.config import Commands

from gridpost.controls import State
from gridpost.errors import ControlMoved, NotFound


@pytest.fixture
def desk(office, monkeypatch):
    """An office with an IED, and a function that runs `gridpost control` with its store and settings."""
    office.ied("IED-1")
    office.commands = Commands(most={"shed": 1}, persons={"trip": 2})
    file = office.post.folder / "gridpost.toml"
    values = {"bus": {"database": "gridpost.db"}, "commands": {"most": {"shed": 1}, "persons": {"trip": 2}}}
    file.write_text(configuration.render(values))
    monkeypatch.setattr(module, "now_utc_ms", office.post.clock)

    def run(*arguments: str):
        done = CliRunner().invoke(module.command, [*arguments, "--config", str(file), "--json"])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    return office, run


def test_what_is_held_is_released_or_deleted_and_the_issuer_is_told(desk):
    office, run = desk
    office.ask(*(office.wanted(name, "IED-1") for name in ("1", "2", "3")))
    held = run("list", "--state", "held")["controls"]
    assert [(one["tracking_id"], one["state"]) for one in held] == [("2", "held"), ("3", "held")]
    assert "2 shed of this issuer within 3600 s exceed 1" in held[0]["steps"][0]["detail"]
    released = run("release", "NORTH/2", "--person", "Ann")
    assert [step["state"] for step in released["steps"]] == ["waiting"]
    deleted = run("delete", "NORTH/3", "--person", "Ann", "--why", "one is enough")
    assert [(step["state"], step["detail"]) for step in deleted["steps"]] == [("refused", "one is enough")]
    assert office.store.waiting(["IED-1"]) == {"IED-1": 2}
    assert [(mail.kind, mail.correlation_id) for mail in office.mails(UTILITY)] == [
        ("step-waiting", "2"),
        ("step-refused", "3"),
    ]
    for decision in ("release", "delete"):
        with pytest.raises(ControlMoved):
            run(decision, "NORTH/3", "--person", "Bob")


def test_two_persons_and_two_names(desk):
    office, run = desk
    office.ask(office.wanted("t", "IED-1", action="trip"))
    assert run("release", "NORTH/t", "--person", "Ann")["steps"][0]["state"] == "proposed"
    with pytest.raises(ControlMoved, match="already"):
        run("release", "NORTH/t", "--person", "ann ")
    assert office.store.waiting(["IED-1"]) == {}
    assert run("release", "NORTH/t", "--person", "Bob")["steps"][0]["state"] == "waiting"
    (shown,) = run("show", "NORTH/t")["controls"]
    assert [(step["state"], step["by"]) for step in shown["steps"]] == [
        ("proposed", "NORTH"),
        ("proposed", "Ann"),
        ("waiting", "Bob"),
    ]
    assert [mail.kind for mail in office.mails(UTILITY)] == ["step-waiting"], "the first of two is no news to it"


def test_a_person_holds_what_no_ied_has_fetched_and_nothing_else(desk):
    office, run = desk
    (made,) = office.ask(office.wanted("1", "IED-1"))
    run("hold", made.control.mrid, "--person", "Ann")
    assert office.state(made.control.mrid) is State.HELD
    assert office.fetch("IED-1") is None
    run("release", made.control.mrid, "--person", "Ann")
    assert office.fetch("IED-1") is not None
    for decision in ("hold", "delete", "release"):
        with pytest.raises(ControlMoved, match="fetched"):
            run(decision, made.control.mrid, "--person", "Ann")


def test_one_control_that_cannot_be_decided_so_leaves_the_others_as_they_were(desk):
    office, run = desk
    first, second = office.ask(office.wanted("1", "IED-1"), office.wanted("2", "IED-1"))
    with pytest.raises(ControlMoved):
        run("release", second.control.mrid, first.control.mrid, "--person", "Ann")
    assert office.state(second.control.mrid) is State.HELD


@pytest.mark.parametrize("name", ["", " ", "Ann\n", "A" * 65])
def test_nobody_decides_without_a_name(desk, name):
    office, run = desk
    office.ask(office.wanted("1", "IED-1"))
    with pytest.raises(AssertionError, match="printable characters"):
        run("hold", "NORTH/1", "--person", name)


def test_what_is_reached_is_said_of_groups_and_of_controls(desk):
    office, run = desk
    office.store.set_group("north", "feeder 7", ["IED-1"])
    (five, fifteen) = run("reach", "--tenant", "north", "--group", "feeder 7")["forecast"]
    assert (five["targets"], five["within"], fifteen["within"]) == (1, 0, 0), "nothing is known of its rhythm"
    office.ask(office.wanted("1", "IED-1"))
    office.fetch("IED-1")
    told = run("reach", "NORTH/1")
    assert [share["percent"] for share in told["reached"]] == [100, 100]
    with pytest.raises(NotFound):
        run("reach", "--tenant", "south", "--group", "feeder 7")
    with pytest.raises(NotFound):
        run("show", "NORTH/none")
