"""gridpost control list | show | release | hold | delete | reach: what persons see and decide of commands to devices.

A second process beside a running bus (decision 7): it appends steps and mails, never entries; the bus sees a release
within a fifth of a second. A NAME is the bus's mRID of a control, or ISSUER/ID with the issuer's own mRID, which stands
for all the controls of a group.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gridpost.controls import State
from gridpost.errors import ConfigInvalid, ControlMoved, NotFound
from gridpost.units import format_utc_ms

from .. import config as configuration
from ..controls import persons
from ..controls.persons import Decide, Person, Reach
from ..controls.reach import Share
from ..store import ControlOnFile
from .output import config_option, done, json_option, now_utc_ms, opened, typed

_names = click.argument("names", nargs=-1, required=True, metavar="NAME...")
_person = click.option(
    "--person", default=getpass.getuser, show_default="who is logged in", callback=typed(persons.check_person),
    help="Who decides; it stands in the control's life for ever.",
)  # fmt: skip
_why = click.option("--why", default="", help="Why; the issuer is told.")


@click.group("control")
def command() -> None:
    """List commands to devices, release, hold and delete them, and say what they would reach."""


@command.command("list")
@click.option("--issuer", help="Only those of this partner.")
@click.option("--target", help="Only those for this IED.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in State]),
    help="Only those in this state; may be given more than once.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
@click.option("--after", default="", help="mRID of the last one of the page before.")
@config_option
@json_option
def list_(
    issuer: str | None, target: str | None, states: Sequence[str], limit: int, after: str, config_file: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """List controls in the order they were asked for, each with its state."""
    wanted = [State(state) for state in states] or None
    with opened(configuration.load(config_file)) as store:
        found = store.controls(issuer, target, wanted, limit, after)
    if as_json:
        done(True, {"controls": [_shown(one) for one in found]}, "")
        return
    table = Table("mRID", "issuer", "its own mRID", "action", "target", "state", "since", "why")
    for one in found:
        control, last = one.control, one.steps[-1]
        table.add_row(
            control.mrid, control.issuer, control.tracking_id, control.action, control.target, last.state.value,
            format_utc_ms(last.at_utc_ms), last.detail,
        )  # fmt: skip
    Console().print(table)


@command.command("show")
@click.argument("name")
@config_option
@json_option
def show(name: str, config_file: Path, as_json: bool) -> None:
    """Show the controls NAME stands for, and each step of their lives."""
    with opened(configuration.load(config_file)) as store:
        found = [_shown(one) for one in persons.named(store, name)]
    done(as_json, {"controls": found}, "\n\n".join(map(_text, found)))


@command.command("release")
@_names
@_person
@config_option
@json_option
def release(names: Sequence[str], person: str, config_file: Path, as_json: bool) -> None:
    """Release what is proposed or held; where two persons must, the first one only says so. Says what it will reach."""
    _decide(names, persons.release, person, ("", config_file, as_json))


@command.command("hold")
@_names
@_person
@_why
@config_option
@json_option
def hold(names: Sequence[str], person: str, why: str, config_file: Path, as_json: bool) -> None:
    """Hold what no device has fetched yet, until it is released or deleted."""
    _decide(names, persons.hold, person, (why, config_file, as_json))


@command.command("delete")
@_names
@_person
@_why
@config_option
@json_option
def delete(names: Sequence[str], person: str, why: str, config_file: Path, as_json: bool) -> None:
    """End what no device has fetched yet: its issuer is told that it is refused."""
    _decide(names, persons.delete, person, (why, config_file, as_json))


@command.command("reach")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--tenant", help="Whose group.")
@click.option("--group", help="A group of IEDs, instead of controls.")
@config_option
@json_option
def reach(names: Sequence[str], tenant: str | None, group: str | None, config_file: Path, as_json: bool) -> None:
    """Say what share of the targets, and of their last known power, calls within 5 and 15 minutes.

    From the rhythm of each IED's messages; one that has kept silent for three of its periods is not counted on. Of
    controls that were released it says what was reached besides.
    """
    if bool(names) == bool(group) or bool(tenant) != bool(group):
        raise click.UsageError("name controls, or --tenant and --group")
    with opened(configuration.load(config_file)) as store:
        if group and tenant:
            serials = store.group(tenant, group)
            if not serials:
                raise NotFound(f"there is no group {group} in {tenant}")
            found = persons.reach_of(store, serials, now_utc_ms())
        else:
            controls = [one for name in names for one in persons.named(store, name)]
            found = persons.reached_of(store, controls, now_utc_ms())
    done(as_json, _reach(found), "\n".join(_reach_lines(found)))


def _decide(names: Sequence[str], decision: Decide, person: str, rest: tuple[str, Path, bool]) -> None:
    why, config_file, as_json = rest
    if not why.isprintable():
        raise ConfigInvalid("--why must be printable")
    config = configuration.load(config_file)
    now = now_utc_ms()
    with opened(config) as store:
        found = [one for name in names for one in persons.named(store, name)]
        reached = persons.reached_of(store, found, now) if decision is persons.release else None
        decided = persons.decide(store, found, decision, Person(person, now, config, why))
    if decided.too_late:
        raise ControlMoved(f"{', '.join(decided.too_late)} went on meanwhile; {len(decided.steps)} others are done")
    steps = [{"control": step.control, "state": step.state.value, "detail": step.detail} for step in decided.steps]
    lines = ["{control} is {state}: {detail}".format(**step) for step in steps]
    shown = {"person": person, "steps": steps}
    if reached is not None:
        shown |= _reach(reached)
        lines += _reach_lines(reached)
    done(as_json, shown, "\n".join(lines))


def _shown(one: ControlOnFile) -> dict[str, Any]:
    """A control as --json shows it: times as text, what is not stated left out."""
    control = one.control._asdict()
    times = {
        name.removesuffix("_utc_ms"): format_utc_ms(control.pop(name))
        for name in ("not_before_utc_ms", "expires_utc_ms", "need_by_utc_ms")
        if control[name]
    }
    kept = {name: value for name, value in control.items() if not name.endswith("_utc_ms") and value != ""}
    steps = [
        {"state": step.state.value, "at": format_utc_ms(step.at_utc_ms), "by": step.by, "detail": step.detail}
        for step in one.steps
    ]
    entry = f"{one.position.partition}:{one.position.seq}"
    return {**kept, **times, "data": dict(control["data"]), "group": one.group, "entry": entry,
            "state": one.state.value, "steps": steps}  # fmt: skip


def _text(shown: dict[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in shown.items() if name != "steps" and value not in ("", {}, 0)]
    return "\n".join([*lines, *("  {at} {state} by {by} {detail}".format(**step).rstrip() for step in shown["steps"])])


def _reach(found: Reach) -> dict[str, Any]:
    return {"forecast": [_share(one) for one in found.forecast], "reached": [_share(one) for one in found.reached]}


def _share(one: Share) -> dict[str, Any]:
    return {
        "minutes": one.minutes, "targets": one.targets, "within": one.reached, "percent": one.percent,
        "known_kw": format(one.known_kw, "f"), "within_kw": format(one.reached_kw, "f"), "percent_kw": one.percent_kw,
    }  # fmt: skip


def _reach_lines(found: Reach) -> list[str]:
    lines = []
    for told, shares in (("reachable", found.forecast), ("reached", found.reached)):
        for one in shares:
            power = f", {one.percent_kw} % of {one.known_kw:f} kW" if one.percent_kw is not None else ""
            lines.append(f"{told} within {one.minutes} min: {one.reached} of {one.targets} IEDs{power}")
    return lines
