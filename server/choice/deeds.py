"""What a policy found or decided becomes an entry of the log: an event, or a control (decisions are proposals first).

In: an event, or a command that is wanted. Out: entries of the bus's own. A control is judged as an operator's is
(roles, persons, thresholds); unless its policy releases it, it is proposed and waits for a person. A name is recorded
once: whoever comes again with it changes nothing.
"""

from __future__ import annotations

from gridpost.controls import State, Wanted
from gridpost.model import EndDeviceEvent

from .. import own
from ..controls.intake import Asked, Intake
from ..own import Bench

_WAITS = "proposed by a policy; a person must release it"


def record_event(bench: Bench, event: EndDeviceEvent) -> None:
    """Put an event into the log under its own mRID.

    Raises:
        SignerUnavailable, StoreUnavailable: it was not.
    """
    own.record_events(bench, event.mrid, (event,))


def record_control(bench: Bench, wanted: Wanted, *, released: bool) -> None:
    """Put a control into the log under its own mRID.

    Args:
        bench: see `own`.
        wanted: what is asked for.
        released: whether its policy releases it; persons and thresholds of the settings hold all the same.

    Raises:
        NotFound: no such IED.
        ControlsRefused: no such action, or a value or output it does not have; itemised.
        SignerUnavailable, StoreUnavailable: it was not recorded.
    """
    message_id = f"{wanted.mrid}-control"  # its event has the name itself
    if own.known(bench, message_id) is not None:
        return
    for serial in wanted.targets:
        bench.store.show_ied(serial)
    judged = Intake(bench.store, bench.config.commands, bench.clock).judged(Asked(own.OURSELVES, (wanted,), released))
    new = [one._replace(detail=_WAITS) if one.state is State.PROPOSED and not released else one for one in judged]
    own.record_controls(bench, message_id, (wanted,), new)
