"""Commands on the wire: EndDeviceControls of IEC 61968-9 with Gridpost's Instruction, values <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, UTF-8, as `encoding.encode` writes it. In: the Body's child
of a message that is verified (or admitted without a signature) and schema-valid. Who may ask for what, and whether a
device obeys, is not judged here. What the profile has no element for travels in ``urn:gridpost:control:1`` Instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from .controls import Control, State, Wanted
from .envelope import Element
from .model import Header, Receipt
from .requests import GetEndDeviceControls

Told = tuple[Control, State] | tuple[Control, State, str]  # the text: why, of the last step


def encode_get_controls(header: Header, after: int, wait_s: int) -> bytes:
    """Return a device's fetch, ``GetEndDeviceControls``.

    Args:
        header: Verb get, Noun EndDeviceControls, a MessageID never used before.
        after: highest counter the device knows; 0 first.
        wait_s: seconds of long poll, 0 to 300.
    """
    raise NotImplementedError


def encode_list_controls(request: GetEndDeviceControls) -> bytes:
    """Return a ``GetEndDeviceControls`` with all that it can ask, as a partner sends it."""
    raise NotImplementedError


def encode_control(control: Control, bus_id: str, sealed_at_utc_ms: int) -> bytes:
    """Return the ``EndDeviceControlsResponseMessage`` that tells one IED one control; CorrelationID is its mRID.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    raise NotImplementedError


def encode_no_control(correlation_id: str, bus_id: str, at_utc_ms: int) -> bytes:
    """Return the answer to a fetch when none waits: no Payload, CorrelationID the MessageID of the fetch."""
    raise NotImplementedError


def decode_control(payload: Element) -> Control | None:
    """Validate and decode what answers a device's fetch: its one control, or None when none waits.

    The control's target, counter and times are as sealed; an action that `controls.ACTIONS` does not have is its code.

    Raises:
        UnknownOperation: another element.
        SchemaInvalid: not of the schema, more than one control, or a value that cannot be read; itemised.
    """
    raise NotImplementedError


def encode_create_controls(header: Header, wanted: Sequence[Wanted]) -> bytes:
    """Return an issuer's ``CreateEndDeviceControls``; with Verb change in the header, ``ChangeEndDeviceControls``."""
    raise NotImplementedError


def encode_cancel_controls(header: Header, ids: Sequence[str]) -> bytes:
    """Return an issuer's ``CancelEndDeviceControls``: mRIDs in Request/ID."""
    raise NotImplementedError


def encode_controls_reply(reply_header: Header, told: Sequence[Told], receipt: Receipt | None = None) -> bytes:
    """Return the ``EndDeviceControlsResponseMessage`` that tells an issuer where its controls are in their life.

    Args:
        reply_header: from `office_messages.reply_to`; its properties may hold ``nextPage``.
        told: controls, each with its state, and a text where there is more to say.
        receipt: of the signed request that is answered; stands behind the controls.
    """
    raise NotImplementedError
