"""Is the life of each control what it was? Its steps, where it stands, and the bytes its IED was given.

In: a store, who signs. Out: findings (`errors.Item`). The control's own row is held against its message and the leaf by
the walk (`log_walk.py`); here its witnesses are that row, the bus's signature on what was sealed, and what the IED
signed of the outcome. What a person decided beside the bus nobody signs: a step of theirs is held against what may
follow what, and no more. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from gridpost import control_messages
from gridpost.controls import (
    DETAIL_CONTROL,
    DETAIL_OUTCOME,
    FINAL,
    FOLLOWS,
    OUTCOME_EVENT,
    OUTCOMES,
    State,
    mrid_of,
)
from gridpost.documents import OURS
from gridpost.errors import Item, PeerFault
from gridpost.evidence import Authority
from gridpost.leaf import ControlRow, parse_control

from .store.archive import Archive, mistyped
from .store.lives_on_file import LifeOnFile, hanging_on_nothing, lives_on_file, outcomes_on_file, wrong_counters

CODE = "control-changed"
_UNFETCHED = frozenset((State.PROPOSED, State.HELD, State.WAITING))
# Besides what an IED and the clock bring: what persons and issuers do to what no IED has fetched.
_MAY_FOLLOW: Mapping[State, frozenset[State]] = {
    **FOLLOWS,
    State.PROPOSED: frozenset((State.PROPOSED,)),  # the first of two persons
    State.HELD: _UNFETCHED,
    State.WAITING: frozenset((State.PROPOSED, State.HELD)),
    State.REFUSED: FOLLOWS[State.REFUSED] | _UNFETCHED,
    State.CANCELED: _UNFETCHED,
}
_ONLY_IED = frozenset((State.ACCEPTED, State.DONE, State.FAILED))  # nobody else can know
_STATES = {state.value: state for state in State}
# Columns that `control_now` repeats.
_REPEATED = ("target", "priority", "not_before_utc_ms", "expires_utc_ms")
Outcome = tuple[Any, Any, Any, Any]  # sender, moment (UTC ms), control, outcome


def check(archive: Archive, authority: Authority, find: Callable[[Item], None]) -> None:
    """Look at every control; what is found is looked at twice, since a running bus goes on meanwhile.

    Args:
        archive: the store.
        authority: who knows the bus's signature.
        find: told each finding.
    """
    looks: list[Callable[[], list[Item]]] = [lambda: _stray(archive), lambda: _counters(archive)]
    for look in looks:
        _twice(look, find)
    lives = Lives(archive, authority)
    after, last = (-1, 0, 0), None
    while after != last:
        last = after
        after = _twice_from(lives, after, find)


def _twice_from(lives: Lives, after: tuple[Any, Any, Any], find: Callable[[Item], None]) -> tuple[Any, Any, Any]:
    _twice(lambda: lives.look(after), find)
    return lives.reached


def _twice(look: Callable[[], list[Item]], find: Callable[[Item], None]) -> None:
    found = look()
    again = look() if found else []
    for item in found:
        if item in again:
            find(item)


def _stray(archive: Archive) -> list[Item]:
    with archive.connection() as connection:
        rows = hanging_on_nothing(connection)
    reason = "no such control: it was deleted, or this row was put in"
    return [Item("row-without-entry", reason, f"{table} {_name(key)}") for table, key in rows]


def _counters(archive: Archive) -> list[Item]:
    with archive.connection() as connection:
        rows = wrong_counters(connection)
    return [
        Item(CODE, f"counter is {counter}, the greatest one sealed for it is {most}", f"control_counter {target}")
        for target, counter, most in rows
    ]


class Lives:
    """The controls of a store, one stretch at a time; `reached` is the key of the last one looked at."""

    def __init__(self, archive: Archive, authority: Authority) -> None:
        self._archive, self._authority = archive, authority
        self._outcomes: set[Outcome] = set()
        self.reached: tuple[Any, Any, Any] = (-1, 0, 0)

    def look(self, after: tuple[Any, Any, Any]) -> list[Item]:
        """Return what is found at the controls behind `after`."""
        with self._archive.connection() as connection:
            lives = lives_on_file(connection, after)
        self.reached = lives[-1].key if lives else after
        return [item for life in lives for item in self._wrong(life)]

    def _wrong(self, life: LifeOnFile) -> Iterator[Item]:
        tables = {"control_now": life.now, "control_sealed": life.sealed}
        rows = [("control_step", row) for row in life.steps] + [(name, row) for name, row in tables.items() if row]
        wrong = [(table, ", ".join(mistyped(table, row))) for table, row in rows]
        if any(columns for _, columns in wrong) or mistyped("control", life.control):
            for table, columns in wrong:
                if columns:
                    yield _item(table, life, f"{columns} is not of its kind")
            return  # of the control's own row the walk tells
        for table, reason in (*_steps(life), *_now(life), *self._given(life), *self._told(life)):
            yield _item(table, life, reason)

    def _given(self, life: LifeOnFile) -> Iterator[tuple[str, str]]:
        """What the IED was given, against the bus's signature and the control's row."""
        fetched = [step["at_utc_ms"] for step in life.steps if step["state"] == State.FETCHED]
        if life.sealed is None:
            if fetched:
                yield "control_sealed", "it was fetched, and what its IED was given is missing"
            return
        if fetched != [life.sealed["at_utc_ms"]]:
            yield "control_sealed", "its steps do not say that it was fetched when it was sealed"
        try:
            said = control_messages.decode_control(self._authority.bus(life.sealed["sealed"]).payload)
        except PeerFault as error:
            yield "control_sealed", f"it is not what the bus signed ({error.detail or error.code})"
            return
        if said is None or (said.target, said.counter) != (life.sealed["target"], life.sealed["counter"]):
            yield "control_sealed", "target or counter is not what the bus signed"
            return
        columns = [life.control[column] for column in control_columns()]
        try:
            ours = parse_control(ControlRow._make(columns), mrid_of(*life.key), said.counter)
        except (ValueError, TypeError):
            return  # the row is damaged, and the walk told of it
        if said != ours:
            yield "control_sealed", "the bus signed another control than the one on file"

    def _told(self, life: LifeOnFile) -> Iterator[tuple[str, str]]:
        """Steps that an IED brought, against what it signed."""
        target, mrid = life.control["target"], mrid_of(*life.key)
        for step in life.steps[1:]:
            state = _STATES.get(step["state"])
            if step["by_whom"] == target and state in OUTCOMES.values():
                if not self._is_said((target, step["at_utc_ms"], mrid, step["state"])):
                    yield "control_step", f"step {step['number']}: {target} never said {step['state']} at that moment"
            elif state in _ONLY_IED and (step["by_whom"], life.control["action"]) != (OURS, "request-data"):
                yield "control_step", f"step {step['number']}: {step['state']} is for {target} to say"

    def _is_said(self, outcome: Outcome) -> bool:
        if outcome not in self._outcomes:  # not yet, perhaps: the log grows
            with self._archive.connection() as connection:
                rows = outcomes_on_file(connection, OUTCOME_EVENT)
            self._outcomes = {(sender, at, *_details(details)) for sender, at, details in rows}
        return outcome in self._outcomes


def control_columns() -> list[str]:
    """Return the columns of the table `control` in the order of `ControlRow`."""
    return ["group_name" if name == "group" else name for name in ControlRow._fields]


def _steps(life: LifeOnFile) -> Iterator[tuple[str, str]]:
    steps, row = life.steps, life.control
    if [step["number"] for step in steps] != list(range(len(steps))) or not steps:
        yield "control_step", "a step is missing"
        return
    if (steps[0]["state"], steps[0]["at_utc_ms"]) != (row["state"], row["recorded_at_utc_ms"]):
        yield "control_step", "its first step is not how its entry began it"
    for before, step in pairwise(steps):
        enters = _STATES.get(step["state"])
        if enters is None or _STATES.get(before["state"]) not in _MAY_FOLLOW[enters]:
            yield "control_step", f"step {step['number']}: {step['state']} cannot follow {before['state']}"


def _now(life: LifeOnFile) -> Iterator[tuple[str, str]]:
    if life.now is None:
        yield "control_now", "where it stands is missing"
        return
    if not life.steps:
        return
    last = life.steps[-1]
    expected = {column: life.control[column] for column in _REPEATED} | {"state": last["state"]}
    waited = [step["at_utc_ms"] for step in life.steps if step["state"] == State.WAITING]
    expected |= {"steps": len(life.steps), "released_at_utc_ms": waited[0] if waited else None}
    expected["closed_at_utc_ms"] = last["at_utc_ms"] if _STATES.get(last["state"]) in FINAL else None
    for column, value in expected.items():
        if life.now[column] != value:
            yield "control_now", f"{column} is {life.now[column]}, its steps and its row say {value}"


def _details(text: Any) -> tuple[Any, Any]:
    try:
        details = json.loads(text)
        return details.get(DETAIL_CONTROL), details.get(DETAIL_OUTCOME)
    except (ValueError, TypeError, AttributeError):
        return None, None  # the walk tells of it


def _item(table: str, life: LifeOnFile, reason: str) -> Item:
    return Item(CODE, reason, f"{table} {_name(life.key)}")


def _name(key: tuple[Any, Any, Any]) -> str:
    return ":".join(map(str, key))
