"""What goes around a message to a partner's service, and what its answer says.

In: credentials, the moment, an answer's Body child. Out: a MultiSpeak message header; findings, empty when the message
was taken. A password never stands in a rendered notification, so it is never stored with one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gridpost import ns
from gridpost.encoding import attribute
from gridpost.envelope import Element
from gridpost.errors import Item
from gridpost.units import format_utc_ms

from ..soap_call import Wrap, enveloped
from .tables import STATED, Version

MOST_FINDINGS = 20
_SAID_OK = frozenset(("", "0", "0.0"))  # how services say in an Error that there is none
_REPLY, _ERROR = ns.q(ns.MESSAGE, "Reply"), ns.q(ns.MESSAGE, "Error")


class Credentials(NamedTuple):
    """Who we are to a partner's MultiSpeak service."""

    user: str = ""
    password: str = ""
    company: str = ""


def wrapping(version: Version, credentials: Credentials, clock: Callable[[], int]) -> Wrap:
    """Return what puts a MultiSpeakMsgHeader around a message; MessageID is the message's stable name.

    Args:
        version: whose header it is.
        credentials: UserID, Pwd and Company; empty ones are left out.
        clock: UTC milliseconds, asked at each call.
    """

    def wrap(name: str, content: bytes) -> bytes:
        return enveloped(_header(version, credentials, name, clock()), content)

    return wrap


def _header(version: Version, credentials: Credentials, name: str, at_utc_ms: int) -> bytes:
    stated = {
        **STATED[version],
        "UserID": credentials.user,
        "Pwd": credentials.password,
        "AppName": "Gridpost",
        "Company": credentials.company,
        "MessageID": name,
        "TimeStamp": format_utc_ms(at_utc_ms),
    }
    fields = "".join(f' {key}="{attribute(value)}"' for key, value in sorted(stated.items()) if value)
    return f'<MultiSpeakMsgHeader xmlns="{version}"{fields}></MultiSpeakMsgHeader>'.encode()


def judged(answer: Element) -> Sequence[Item]:
    """Return what a partner found wrong; empty: taken.

    MultiSpeak answers a list of errorObjects, empty for success; IEC 61968-100 a Reply with Result and Errors, where
    success is often an Error with the code 0.0.
    """
    found = [_of_object(one) for one in answer.iterfind(".//{*}errorObject") if one.attrib or (one.text or "").strip()]
    reply = answer.find(_REPLY)
    if reply is None:
        reply = answer.find("{*}Reply")
    if reply is not None:
        found += _of_reply(reply)
    return found[:MOST_FINDINGS]


def _of_object(error: Element) -> Item:
    said = error.get("errorString") or (error.text or "").strip() or "no reason given"
    return Item("partner-error", said, error.get("objectID", ""))


def _of_reply(reply: Element) -> list[Item]:
    errors = [one for one in reply.iterfind(_ERROR) if (_text(one, "code")) not in _SAID_OK]
    found = [Item("partner-error", _text(one, "reason") or _text(one, "code"), _text(one, "xpath")) for one in errors]
    result = _text(reply, "Result")
    if result != "OK" and not found:
        found = [Item("partner-error", f"Result {result or 'missing'}")]
    return found


def _text(element: Element, name: str) -> str:
    return (element.findtext(ns.q(ns.MESSAGE, name)) or "").strip()
