"""Commands on the wire: EndDeviceControls of IEC 61968-9 with Gridpost's Instruction, values <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, UTF-8, as `encoding.encode` writes it. In: the Body's child
of a message that is verified (or admitted without a signature) and schema-valid. Who may ask for what, whether an
action has the value and the output it needs, and whether a device obeys, is not judged here. What the profile has no
element for travels in ``urn:gridpost:control:1`` Instruction. A `_utc_ms` of 0 is an absent element.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import ns, schemas, units
from .answers import encode_receipt_element, encode_reply
from .asking import Asked, Option, encode_request, read_request, up_to
from .controls import ACTION_OF_CODE, ACTIONS, Control, State, Wanted
from .encoding import attribute, encode_header, octets, text_of
from .envelope import Element
from .errors import UnknownOperation
from .findings import Findings, printable, text_at
from .model import Header, Message, Receipt
from .requests import (
    LONGEST_WAIT_S,
    MOST_ASKED,
    CancelEndDeviceControls,
    ChangeEndDeviceControls,
    CreateEndDeviceControls,
    GetEndDeviceControls,
)

Told = tuple[Control, State] | tuple[Control, State, str]  # the text: why, of the last step
NOUN = "EndDeviceControls"
MOST_CONTROLS = 1000  # in one request
LONGEST_MRID = 64  # of an issuer's own
DEFAULT_PRIORITY = 5
_SPACE = ns.END_DEVICE_CONTROLS_MESSAGE
_D = f"{{{ns.END_DEVICE_CONTROLS}}}"
_C = f"{{{ns.CONTROL}}}"
_I = f"{_C}Instruction/{_C}"
_INTERVAL = f"{_D}primaryDeviceTiming/{_D}interval/{_D}"

GET, CREATE, CHANGE, CANCEL = (ns.q(_SPACE, f"{verb}{NOUN}") for verb in ("Get", "Create", "Change", "Cancel"))
RESPONSE = ns.q(_SPACE, f"{NOUN}ResponseMessage")
OPTIONS: Mapping[str, Option] = {
    "after": Option(up_to(10**units.MAX_DIGITS - 1)),
    "wait": Option(up_to(LONGEST_WAIT_S)),
    "state": Option(State, many=True),
    "limit": Option(up_to(MOST_ASKED)),
    "page": Option(),
}

# --- encode ----------------------------------------------------------------------------------------------------------


def encode_get_controls(header: Header, after: int, wait_s: int) -> bytes:
    """Return a device's fetch, ``GetEndDeviceControls``.

    Args:
        header: Verb get, Noun EndDeviceControls, a MessageID never used before.
        after: highest counter the device knows; 0 first.
        wait_s: seconds of long poll, 0 to 300.
    """
    # Also where they are 0: whoever reads the message sees what was asked.
    return encode_request(GET, header, Asked({"after": (str(after),), "wait": (str(wait_s),)}))


def encode_list_controls(request: GetEndDeviceControls) -> bytes:
    """Return a ``GetEndDeviceControls`` with all that it can ask, as a partner sends it."""
    numbers = {"after": request.after, "wait": request.wait_s, "limit": request.limit}
    options = {"state": request.states, "page": (request.page,) if request.page else ()}
    options |= {name: (str(number),) for name, number in numbers.items() if number}
    return encode_request(GET, request.header, Asked(options, request.ids))


def encode_control(control: Control, bus_id: str, sealed_at_utc_ms: int) -> bytes:
    """Return the ``EndDeviceControlsResponseMessage`` that tells one IED one control; CorrelationID is its mRID.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    header = Header("reply", NOUN, sealed_at_utc_ms, bus_id, correlation_id=control.mrid)
    return encode_reply(header, _all_of([_encode_control(control)]))


def encode_no_control(correlation_id: str, bus_id: str, at_utc_ms: int) -> bytes:
    """Return the answer to a fetch when none waits: no Payload, CorrelationID the MessageID of the fetch."""
    return encode_reply(Header("reply", NOUN, at_utc_ms, bus_id, correlation_id=correlation_id), "")


def encode_create_controls(header: Header, wanted: Sequence[Wanted]) -> bytes:
    """Return an issuer's ``CreateEndDeviceControls``; with Verb change in the header, ``ChangeEndDeviceControls``.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    name = f"{header.verb.capitalize()}{NOUN}"
    controls = _all_of(map(_encode_wanted, wanted))
    return octets(f'<{name} xmlns="{_SPACE}">{encode_header(header)}<Payload>{controls}</Payload></{name}>')


def encode_cancel_controls(header: Header, ids: Sequence[str]) -> bytes:
    """Return an issuer's ``CancelEndDeviceControls``: mRIDs in Request/ID."""
    return encode_request(CANCEL, header, Asked(ids=tuple(ids)))


def encode_controls_reply(reply_header: Header, told: Sequence[Told], receipt: Receipt | None = None) -> bytes:
    """Return the ``EndDeviceControlsResponseMessage`` that tells an issuer where its controls are in their life.

    Args:
        reply_header: from `office_messages.reply_to`; its properties may hold ``nextPage``.
        told: controls, each with its state, and a text where there is more to say.
        receipt: of the signed request that is answered; stands behind the controls.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    controls = _all_of(_encode_control(control, state, *detail) for control, state, *detail in told)
    return encode_reply(reply_header, controls + (encode_receipt_element(receipt) if receipt else ""))


def _all_of(controls: Iterable[str]) -> str:
    return f'<EndDeviceControls xmlns="{ns.END_DEVICE_CONTROLS}">{"".join(controls)}</EndDeviceControls>'


def _encode_wanted(wanted: Wanted) -> str:
    devices = "".join(f"<EndDevices><mRID>{text_of(target)}</mRID></EndDevices>" for target in wanted.targets)
    group = f"<EndDeviceGroups><mRID>{text_of(wanted.group)}</mRID></EndDeviceGroups>" if wanted.group else ""
    return _encode({"mRID": wanted.mrid}, wanted, group + devices, {})


def _encode_control(control: Control, state: str = "", detail: str = "") -> str:
    ids = {"mRID": control.mrid, "issuerID": control.issuer, "issuerTrackingID": control.tracking_id}
    device = f"<EndDevices><mRID>{text_of(control.target)}</mRID></EndDevices>"
    counter = str(control.counter) if control.counter else ""
    return _encode(ids, control, device, {"role": control.role, "counter": counter, "state": state, "detail": detail})


def _encode(ids: Mapping[str, str], of: Wanted | Control, devices: str, bus: Mapping[str, str]) -> str:
    """One EndDeviceControl; `bus` is what the bus alone says in the Instruction."""
    code = ACTIONS[of.action].code if of.action in ACTIONS else of.action
    needs = {"output": of.output, "value": of.value, "unit": of.unit, "priority": str(of.priority)}
    data = "".join(
        f"<Data><name>{text_of(name)}</name><value>{text_of(value)}</value></Data>" for name, value in of.data
    )
    instruction = _texts({**bus, **needs, "needBy": _moment(of.need_by_utc_ms)}) + data
    interval = _texts({"end": _moment(of.expires_utc_ms), "start": _moment(of.not_before_utc_ms)})
    timing = f"<primaryDeviceTiming><interval>{interval}</interval></primaryDeviceTiming>" if interval else ""
    return (
        f"<EndDeviceControl>{_texts({**ids, 'reason': of.reason})}"
        f'<EndDeviceControlType ref="{attribute(code)}"></EndDeviceControlType>{devices}{timing}'
        f'<Instruction xmlns="{ns.CONTROL}">{instruction}</Instruction></EndDeviceControl>'
    )


def _texts(fields: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{text_of(text)}</{name}>" for name, text in fields.items() if text)


def _moment(utc_ms: int) -> str:
    return units.format_utc_ms(utc_ms) if utc_ms else ""


# --- decode ----------------------------------------------------------------------------------------------------------


def decode_control(payload: Element) -> Control | None:
    """Validate and decode what answers a device's fetch: its one control, or None when none waits.

    The control's target, counter and times are as sealed; an action that `controls.ACTIONS` does not have is its code.

    Raises:
        UnknownOperation: another element.
        SchemaInvalid: not of the schema, more than one control, or a value that cannot be read; itemised.
    """
    if payload.tag != RESPONSE:
        raise UnknownOperation(detail=str(payload.tag)[:200])
    schemas.validate(payload)
    content = payload.find("{*}Payload")
    if content is None:
        return None
    findings = Findings(payload)
    controls = content.findall(f"{_D}EndDeviceControls/{_D}EndDeviceControl")
    if len(controls) != 1:
        findings.add(content, f"holds {len(controls)} controls; a device is told one")
        findings.refuse()
    control = _sealed(controls[0], findings)
    findings.refuse()
    return control


def _sealed(element: Element, findings: Findings) -> Control:
    targets = [text_at(device, f"{_D}mRID") for device in element.iterfind(f"{_D}EndDevices")]
    counter = int(text_at(element, f"{_I}counter") or 0)
    if len(targets) != 1 or not counter:
        findings.add(element, "a sealed control names one device and has a counter from 1")
    return Control(
        mrid=text_at(element, f"{_D}mRID"),
        issuer=text_at(element, f"{_D}issuerID"),
        role=text_at(element, f"{_I}role"),
        tracking_id=text_at(element, f"{_D}issuerTrackingID"),
        target=targets[0] if targets else "",
        counter=counter,
        **_common(element, findings),
    )


def _common(element: Element, findings: Findings) -> dict[str, Any]:
    """What a control as asked for and one as sealed have in common."""

    def read(path: str, how: Callable[[str], Any], absent: Any) -> Any:
        found = element.find(path)
        return absent if found is None else findings.tried(how, found)

    code = element.find(f"{_D}EndDeviceControlType").get("ref", "").strip()
    return {
        "action": ACTION_OF_CODE.get(code, code),
        "output": text_at(element, f"{_I}output"),
        "value": read(f"{_I}value", units.decimal_text, ""),
        "unit": text_at(element, f"{_I}unit"),
        "not_before_utc_ms": read(f"{_INTERVAL}start", units.parse_utc_ms, 0),
        "expires_utc_ms": read(f"{_INTERVAL}end", units.parse_utc_ms, 0),
        "need_by_utc_ms": read(f"{_I}needBy", units.parse_utc_ms, 0),
        "priority": read(f"{_I}priority", int, DEFAULT_PRIORITY),
        "reason": text_at(element, f"{_D}reason"),
        "data": tuple((text_at(one, f"{_C}name"), text_at(one, f"{_C}value")) for one in element.iterfind(f"{_I}Data")),
    }


def _decode_get(header: Header, element: Element) -> Message:
    asked = read_request(element, OPTIONS)
    return GetEndDeviceControls(
        header,
        after=asked.number("after"),
        wait_s=asked.number("wait"),
        ids=asked.ids,
        states=asked.texts("state"),
        limit=asked.number("limit"),
        page=asked.text("page"),
    )


def _decode_create(header: Header, element: Element) -> Message:
    return CreateEndDeviceControls(header, _decode_wanted(element))


def _decode_change(header: Header, element: Element) -> Message:
    return ChangeEndDeviceControls(header, _decode_wanted(element))


def _decode_cancel(header: Header, element: Element) -> Message:
    return CancelEndDeviceControls(header, read_request(element, {}, least_ids=1).ids)


def _decode_wanted(message: Element) -> tuple[Wanted, ...]:
    payload, findings = message[1][0], Findings(message)
    controls = payload.findall(f"{_D}EndDeviceControl")
    if not 1 <= len(controls) <= MOST_CONTROLS:
        findings.add(payload, f"needs 1 to {MOST_CONTROLS} controls, has {len(controls)}")
        findings.refuse()
    wanted = tuple(_one_wanted(control, findings) for control in controls)
    times = Counter(one.mrid for one in wanted)
    for one, control in zip(wanted, controls, strict=True):
        if times[one.mrid] > 1:
            findings.add(control, f"mRID {one.mrid!r} stands {times[one.mrid]} times")
    findings.refuse()
    return wanted


def _one_wanted(element: Element, findings: Findings) -> Wanted:
    def ids(path: str) -> tuple[str, ...]:
        return tuple(findings.tried(printable, one) or "" for one in element.iterfind(path))

    groups, targets = ids(f"{_D}EndDeviceGroups/{_D}mRID"), ids(f"{_D}EndDevices/{_D}mRID")
    mrid, common = text_at(element, f"{_D}mRID"), _common(element, findings)
    complaints = {
        f"needs an mRID of 1 to {LONGEST_MRID} printable ASCII characters": not _is_printable(mrid),
        f"{common['action'][:40]!r} is no kind of control known here": common["action"] not in ACTIONS,
        "names neither a device nor a group, or more than one group": (not targets and not groups) or len(groups) > 1,
    }
    for reason, holds in complaints.items():
        if holds:
            findings.add(element, reason)
    return Wanted(mrid=mrid, targets=targets, group="".join(groups), **common)


def _is_printable(mrid: str) -> bool:
    return 1 <= len(mrid) <= LONGEST_MRID and all(" " <= character <= "~" for character in mrid)


# Class -> its encoder: lines of `messages.encode`.
ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    GetEndDeviceControls: encode_list_controls,
    CreateEndDeviceControls: lambda one: encode_create_controls(one.header, one.wanted),
    ChangeEndDeviceControls: lambda one: encode_create_controls(one.header, one.wanted),
    CancelEndDeviceControls: lambda one: encode_cancel_controls(one.header, one.ids),
}

# QName of the Body's child -> noun, verb, decoder: lines of `messages.MESSAGES`.
REQUESTS: Mapping[str, tuple[str, str, Callable[[Header, Element], Message]]] = {
    GET: (NOUN, "get", _decode_get),
    CREATE: (NOUN, "create", _decode_create),
    CHANGE: (NOUN, "change", _decode_change),
    CANCEL: (NOUN, "cancel", _decode_cancel),
}
