"""What a running bus has of controls: the desk where IEDs fetch, the reader that follows the log for offices.

In: what answers are made with, settings, the store, a reactor. Out: the parts that `app.py` starts, ticks and stops,
and what their steps have to say for the audit log. Nothing runs by itself here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ..alarms import Alarms
from ..audit import Audit
from ..config import Commands
from ..receipts import seal_answer
from ..reception import Post
from ..store import SqlStore
from .desk import LOOK_S as LOOK_S
from .desk import Desk
from .follower import BATCH, Follower, Outcome

FOLLOW_S = 0.5  # between two looks at the log: an outcome is in its issuer's mailbox a second after its receipt
Run = Callable[[Callable[[], Outcome]], Awaitable[Outcome]]
_OUTCOME_ALARM, _HELD_ALARM = "outcome-strange", "control-held"


class ControlRoom:
    """Desk and follower."""

    def __init__(self, post: Post, commands: Commands, store: SqlStore, reactor: Any) -> None:
        """`store` is the post's, with all its verbs."""
        self.desk = Desk(store, post.bus_id, partial(_seal, post), post.clock, reactor)
        self.desk.most = commands.long_polls
        self.follower, self._clock = Follower(store, post.bus_id, commands.answer_s), post.clock
        self._stopping = False

    def begin(self) -> None:
        """Start the reader where the log is, where it never ran; before anything is listened on."""
        self.follower.begin()

    def stop(self) -> None:
        """Answer every fetch that waits, and follow no further than the present step."""
        self._stopping = True
        self.desk.stop()

    async def follow(self, aside: Run, audit: Audit, alarms: Alarms) -> None:
        """Follow the log as far as it goes; `aside` runs a step off the reactor.

        Raises:
            StoreUnavailable: the next look goes on where this one stopped.
        """
        more = True
        while more and not self._stopping:
            more = self._tell(await aside(self._step), audit, alarms)

    def _step(self) -> Outcome:
        return self.follower.step(self._clock())

    def _tell(self, outcome: Outcome, audit: Audit, alarms: Alarms) -> bool:
        """Write what a step of the follower did to the audit log; tell whether there is more to follow at once."""
        for step in outcome.steps:
            audit.event("control-step", control=step.control, state=step.state.value, by=step.by, detail=step.detail)
        for one in outcome.strange:
            alarms(_OUTCOME_ALARM, sender=one.sender, control=one.control, reason=one.why)
        for held in outcome.held:
            control, first = held.control, held.steps[0]
            alarms(
                _HELD_ALARM, control=control.mrid, issuer=control.issuer, action=control.action, target=control.target,
                reason=first.detail,
            )  # fmt: skip
        return outcome.entries == BATCH


def _seal(post: Post, body: bytes, now_utc_ms: int, certificate: bytes) -> bytes:
    """Seal a control in the family of the key that asked for it."""
    return seal_answer(post.signer_for(certificate), body, now_utc_ms)
