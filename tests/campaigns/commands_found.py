"""What the campaign of commands counts, and what it found not to hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from traffic import Tally


@dataclass
class CommandsFound(Tally):
    """Raw counts; the second group must be 0. `problems` names the first few of what does not hold."""

    seed: int = 0
    commands: int = 0
    ieds: int = 0
    processes: int = 0
    sabotage: str = ""
    requests: int = 0
    repeated_requests: int = 0
    remade: int = 0
    unanswered: int = 0
    answers_verified: int = 0
    repeated_fetches: int = 0
    mails: int = 0
    repeated_mails: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    processes_killed: int = 0
    cuts: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    doomed: int = 0
    acts: int = 0
    outcomes_signed: int = 0
    cut_short: int = 0
    unknown_and_acted: int = 0
    seconds: float = 0.0

    lost: int = 0
    phantom: int = 0
    refused: int = 0
    not_final: int = 0
    done_twice: int = 0
    not_done: int = 0
    done_all_the_same: int = 0
    expired_done: int = 0
    without_intent: int = 0
    unsigned: int = 0
    outcomes_missing: int = 0
    outcomes_double: int = 0
    outcomes_wrong: int = 0
    unknown_unfounded: int = 0
    guessed: int = 0
    answers_changed: int = 0
    controls_changed: int = 0
    mails_changed: int = 0
    mails_out_of_order: int = 0
    problems: list[str] = field(default_factory=list)
