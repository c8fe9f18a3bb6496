"""What a partner is told of a control by its mailbox: an event that says where it is now. Pure.

In: a control, a step. Out: mails. An IED's own outcome and the bus's word (held, expired, deleted) have one form: an
EndDeviceEvent of `controls.OUTCOME_EVENT`. The mail's key is the control's own row and the state, so each state of a
control is told once for ever, whatever is read or sent again. What must not be done here: telling anybody but the
issuer, and operators of its tenant of what is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gridpost import messages
from gridpost.controls import (
    DETAIL_ACTION,
    DETAIL_CONTROL,
    DETAIL_COUNTER,
    DETAIL_METER,
    DETAIL_OUTCOME,
    DETAIL_REASON,
    DETAIL_TRACKING,
    OUTCOME_EVENT,
    Control,
    Role,
    State,
    Step,
    place_of,
)
from gridpost.model import Channel, CreatedEndDeviceEvents, EndDeviceEvent, Header
from gridpost.partners import Partner
from gridpost.requests import Mail

NOUN = "EndDeviceEvents"
OUTCOME, STEP, HELD = (
    "outcome",
    "step",
    "held",
)  # kinds of mails, before the state: of the IED, of the bus, of quarantine
# What an issuer is told although no IED has said it; the rest of a life it sees by asking.
TOLD_BY_BUS = frozenset((State.HELD, State.REFUSED, State.EXPIRED, State.WAITING, State.UNKNOWN))


def only_meter(channels: Iterable[Channel], at_utc: int) -> str:
    """Return the one meter that an IED's channels are of at a moment, UTC seconds; empty: several, or none.

    Of an IED with one meter the switch is that meter's; of others nobody can tell.
    """
    meters = {channel.key.meter for channel in channels if channel.holds_at(at_utc)}
    return meters.pop() if len(meters) == 1 else ""


def outcome_mail(control: Control, step: Step, bus_id: str, entry: str, meter: str) -> Mail:
    """Return the mail to the issuer of what an IED said.

    Args:
        control: what it is about.
        step: what the outcome makes of it; `at_utc_ms` is when the IED says it was.
        bus_id: Source of the mail's content.
        entry: ``partition:seq`` of the IED's signed message, by which its proof is had.
        meter: see `only_meter`.
    """
    return _mail(control.issuer, OUTCOME, control, step, {"source": bus_id, "entry": entry, "meter": meter})


def step_mails(
    control: Control, step: Step, bus_id: str, partners: Iterable[Partner], meter: str = ""
) -> Iterator[Mail]:
    """Yield the mails of a step that a person or the bus made; to operators only those of what is held.

    Args:
        control: what it is about.
        step: the step.
        bus_id: Source of the mails' content.
        partners: those there are now; an issuer that is none of them is told nothing.
        meter: see `only_meter`; asked of what is over.
    """
    here = {partner.id: partner for partner in partners}
    issuer = here.get(control.issuer)
    if step.state not in TOLD_BY_BUS or issuer is None:
        return
    yield _mail(issuer.id, STEP, control, step, {"source": bus_id, "meter": meter})
    for partner in here.values():
        is_operator = partner.role is Role.OPERATOR and partner.tenant == issuer.tenant and partner != issuer
        if step.state is State.HELD and is_operator:
            yield _mail(partner.id, HELD, control, step, {"source": bus_id})


def _mail(whose: str, kind: str, control: Control, step: Step, more: Mapping[str, str]) -> Mail:
    place = place_of(control.mrid)
    assert place is not None, "a control on file has the mRID of its row"
    partition, seq, line = place
    stated = {
        DETAIL_CONTROL: control.mrid,
        DETAIL_COUNTER: str(control.counter),
        DETAIL_OUTCOME: step.state.value,
        DETAIL_REASON: step.detail,
        DETAIL_TRACKING: control.tracking_id,
        "issuer": control.issuer,
        DETAIL_ACTION: control.action,
        DETAIL_METER: more.get("meter", ""),
        "by": step.by,
        "entry": more.get("entry", ""),
    }
    event = EndDeviceEvent(
        mrid=f"{control.mrid}-{step.state.value}",
        event_type=OUTCOME_EVENT,
        created_utc_ms=step.at_utc_ms,
        asset=control.target,
        reason=step.detail,
        details={name: text for name, text in stated.items() if text},
    )
    header = Header(
        "created", NOUN, step.at_utc_ms, more["source"], f"{kind}-{event.mrid}", correlation_id=control.tracking_id
    )
    content = messages.encode(CreatedEndDeviceEvents(header, (event,)))
    return Mail(whose, f"{kind}-{step.state.value}", NOUN, content, control.tracking_id, partition, seq, line)
