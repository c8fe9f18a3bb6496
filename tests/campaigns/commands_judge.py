"""Whether each command was done at most once and told exactly once: judged after the campaign of commands.

In: the database by SQL, the spools by SQL, the lines the outputs' programs wrote, the mails as partners read them, and
when which process was killed. What was done is what the programs wrote; the product's own word is held against it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from commands_found import CommandsFound
from commands_offices import Partner, Told
from commands_site import Act, Host, Ied, Kill

from gridpost import exchange
from gridpost.controls import DETAIL_CONTROL, DETAIL_COUNTER, DETAIL_OUTCOME, FINAL, OUTCOME_EVENT
from gridpost.model import Enrolment, Position
from gridpost.ports import Store

_CONTROLS = """
    SELECT n.partition || '-' || n.seq || '-' || n.line, c.issuer, c.tracking_id, c.target, c.expires_utc_ms, n.state,
    coalesce(s.counter, 0) FROM control_now n JOIN control c USING (partition, seq, line)
    LEFT JOIN control_sealed s USING (partition, seq, line)
"""
_FINAL = frozenset(state.value for state in FINAL)


class OnFile(NamedTuple):
    """A control as the bus has it."""

    mrid: str
    issuer: str
    tracking_id: str
    target: str
    expires_utc_ms: int
    state: str
    counter: int


class InSpool(NamedTuple):
    """A control as its device has it."""

    mrid: str
    intent_utc_ms: int | None
    outcome: str | None
    outcome_utc_ms: int | None


def on_file(database: Path) -> list[OnFile]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [OnFile(*row) for row in connection.execute(_CONTROLS)]


@dataclass
class Judge:
    """All there is to look at, and where what does not hold is put down."""

    controls: Mapping[str, OnFile]
    hosts: Sequence[Host]
    partners: Sequence[Partner]
    found: CommandsFound
    acts: dict[str, list[Act]] = field(default_factory=dict)
    spools: dict[str, InSpool] = field(default_factory=dict)

    def everything(self, store: Store) -> None:
        """Look at all of it; `store` gives the evidence of entries."""
        for host in self.hosts:
            for ied in host.ieds:
                self._read(ied)
        self.found.states = dict(Counter(one.state for one in self.controls.values()))
        self._asked()
        mails = self._mails()
        for one in self.controls.values():
            self._done(one)
            self._told(one, mails.get(one.mrid, []))
        for host in self.hosts:
            for ied in host.ieds:
                self._unknown(host, [one for one in self.controls.values() if one.target == ied.serial])
        self._signed(store, [told for some in mails.values() for told in some if told.kind.startswith("outcome-")])

    def _read(self, ied: Ied) -> None:
        for act in ied.acts():
            self.acts.setdefault(act.mrid, []).append(act)
        with closing(sqlite3.connect(f"file:{ied.spool}?mode=ro", uri=True)) as spool:
            columns = ", ".join(InSpool._fields)
            self.spools |= {row[0]: InSpool(*row) for row in spool.execute(f"SELECT {columns} FROM control")}

    # --- what was asked for is there, once ---------------------------------------------------------------------------

    def _asked(self) -> None:
        there = Counter((one.issuer, one.tracking_id) for one in self.controls.values())
        targets = {(one.issuer, one.tracking_id, one.target) for one in self.controls.values()}
        if len(targets) != len(self.controls):
            self.found.problem("an IED has a command twice", "phantom")
        for partner in self.partners:
            for name, number in partner.asked.items():
                if there.pop((partner.id, name), 0) != number:
                    self.found.problem(f"{partner.id}'s {name}: not on file for its {number} IEDs", "lost")
        for issuer, name in there:
            self.found.problem(f"{issuer}'s {name}: nobody asked for it", "phantom")
        for mrid in self.acts.keys() - self.controls.keys():
            self.found.problem(f"{mrid}: acted on, and there is no such command", "phantom")

    # --- what was done -----------------------------------------------------------------------------------------------

    def _done(self, one: OnFile) -> None:
        acts = self.acts.get(one.mrid, [])
        begun = [act for act in acts if act.kind == "+"]
        done = [act for act in acts if act.kind == "="]
        self.found.acts += len(done)
        what = f"{one.mrid} ({one.tracking_id}, counter {one.counter}) of {one.target}: {one.state}"
        if one.state not in _FINAL:
            self.found.problem(f"{what} in the end", "not_final")
        if max(len(begun), len(done)) > 1:
            self.found.problem(f"{what}, begun {len(begun)} times, done {len(done)} times", "done_twice")
        if any(act.serial != one.target for act in acts):
            self.found.problem(f"{what}, acted on by {[act.serial for act in acts]}", "done_all_the_same")
        if one.state == "done" and not done:
            self.found.problem(f"{what}, and nothing was done", "not_done")
        if begun and one.state not in ("done", "unknown"):
            self.found.problem(f"{what}, and was done", "done_all_the_same")
        self.found.unknown_and_acted += one.state == "unknown" and bool(done)
        spool = self.spools.get(one.mrid)
        intent = spool.intent_utc_ms if spool else None
        if begun and (intent is None or intent > begun[0].at_utc_ms):
            self.found.problem(f"{what}, begun at {begun[0].at_utc_ms}, intent at {intent}", "without_intent")
        if begun and (self._life(one.target, begun[0]) or (intent or 0) >= one.expires_utc_ms):
            self.found.problem(f"{what}, expired at {one.expires_utc_ms}, done at {begun[0].at_utc_ms}", "expired_done")

    def _life(self, serial: str, act: Act) -> bool:
        """Whether the process that acted was started only after the command had expired."""
        host = self._host(serial)
        began = max(life for life in host.lives if life <= act.at_utc_ms)
        return began >= self.controls[act.mrid].expires_utc_ms

    def _host(self, serial: str) -> Host:
        return next(host for host in self.hosts if any(ied.serial == serial for ied in host.ieds))

    # --- what was told -----------------------------------------------------------------------------------------------

    def _mails(self) -> dict[str, list[Told]]:
        """The mails that tell of a control, by its mRID; those of others' commands, which a grant brings, left out."""
        of: dict[str, list[Told]] = defaultdict(list)
        for partner in self.partners:
            self.found.mails += len(partner.mails)
            for told in partner.mails.values():
                if told.kind != "commands":
                    of[told.control].append(told)
            contents = Counter(told.content for told in partner.mails.values())
            for content, times in contents.items():
                if times > 1:
                    self.found.problem(f"{partner.id} has a mail {times} times: {content[:300]!r}", "outcomes_double")
        return of

    def _told(self, one: OnFile, mails: Sequence[Told]) -> None:
        finals = [told for told in mails if told.outcome in _FINAL]
        what = f"{one.mrid} ({one.tracking_id}): {one.state}"
        if one.state in _FINAL and not finals:
            self.found.problem(f"{what}, and no mail tells {one.issuer}", "outcomes_missing")
        if len(finals) > 1 or len(mails) - len(finals) > 1:
            kinds = [told.kind for told in mails]
            self.found.problem(f"{what}, told more than once: {kinds}", "outcomes_double")
        for told in mails:
            right = (told.partner, told.tracking_id) == (one.issuer, one.tracking_id)
            counted = told.counter == str(one.counter) or told.kind.startswith("step-")
            if not right or not counted or (told in finals and told.outcome != one.state):
                self.found.problem(f"{what}, told as {told[:-1]}", "outcomes_wrong")

    # --- unknown, and only where a kill explains it -------------------------------------------------------------------

    def _unknown(self, host: Host, controls: Sequence[OnFile]) -> None:
        for one in controls:
            spool = self.spools.get(one.mrid)
            told = spool.outcome if spool else None
            what = f"{one.mrid}: {one.state} at the bus, {spool}"
            if told is not None and told != one.state:
                self.found.problem(f"{what}, another outcome in the device's spool", "outcomes_wrong")
            if one.state == "unknown" and not (spool and self._kill_between(host.kills, spool, surely=False)):
                self.found.problem(f"{what}, and no kill between intent and outcome", "unknown_unfounded")
            if spool and self._kill_between(host.kills, spool, surely=True):
                self.found.cut_short += 1
                if one.state != "unknown":
                    self.found.problem(f"{what}, though a kill fell in between", "guessed")

    def _kill_between(self, kills: Sequence[Kill], spool: InSpool, *, surely: bool) -> bool:
        """Whether a kill fell, or may have fallen, between the intent and what was written behind it."""
        begin, end = spool.intent_utc_ms, spool.outcome_utc_ms
        if begin is None or end is None:
            return False
        if surely:
            return any(begin < kill.before_utc_ms and kill.after_utc_ms < end for kill in kills)
        return any(begin <= kill.after_utc_ms and kill.before_utc_ms <= end for kill in kills)

    # --- signed ------------------------------------------------------------------------------------------------------

    def _signed(self, store: Store, mails: Sequence[Told]) -> None:
        """Each outcome's mail names an entry, and that is a message its own device signed and that says so."""
        devices = {ied.serial: ied.device for host in self.hosts for ied in host.ieds}
        opened: dict[str, set[tuple[str, ...]]] = {}
        for told in mails:
            control = self.controls.get(told.control)
            if control is None:
                self.found.problem(f"a mail of {told.control}, which is no command", "phantom")
                continue
            device = devices[control.target]
            if told.entry not in opened:
                raw = store.evidence(Position(*map(int, told.entry.split(":"))))
                sender = Enrolment(device.serial, device.signer.certificate, None, device.channels)
                message = exchange.open_(exchange.read(raw), sender).message
                names = (DETAIL_CONTROL, DETAIL_COUNTER, DETAIL_OUTCOME)
                opened[told.entry] = {
                    tuple(event.details.get(name, "") for name in names)
                    for event in message.events
                    if event.event_type == OUTCOME_EVENT
                }
            if (told.control, told.counter, told.outcome) in opened[told.entry]:
                self.found.outcomes_signed += 1
            else:
                self.found.problem(f"{told.control}: entry {told.entry} does not say {told.outcome}", "unsigned")
