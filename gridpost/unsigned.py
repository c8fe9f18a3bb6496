"""Bytes to the shaped envelope of an office's message, which may bear no signature.

Floor 3. In: the bytes a stranger sent. Out: an `Envelope`, when it bears a signature, or an `Unsigned`; nothing in
either is trusted yet. One parse, as everywhere. Who an unsigned message is from is said by the connection's TLS
certificate or by its UsernameToken, and the office listener asks that; nothing of the message is read before.

The shape without a signature::

    soap:Envelope
      soap:Header?       others only without mustUnderstand, and ignored
        wsse:Security?   a wsse:UsernameToken with Username and a Password in clear text, a wsu:Timestamp (ignored)
                         the token may hold a Nonce and Created too, as many toolkits send: TLS keeps others from it
      soap:Body          one element child
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import ns
from .envelope import (
    BODY,
    HEADER,
    SECURITY,
    SIGNATURE,
    WSU_ID,
    Claims,
    Element,
    Envelope,
    Limits,
    children_of,
    parse,
    refuse_must_understand,
    refuse_soap_attributes,
    refuse_twin_ids,
    shape_of,
)
from .errors import EnvelopeShape, VersionMismatch

PASSWORD_TEXT = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"
_USERNAME_TOKEN = ns.q(ns.WSSE, "UsernameToken")
_USERNAME, _PASSWORD = ns.q(ns.WSSE, "Username"), ns.q(ns.WSSE, "Password")
_BESIDE = {ns.q(ns.WSSE, "Nonce"), ns.q(ns.WSU, "Created")}
_TIMESTAMP = ns.q(ns.WSU, "Timestamp")
_ACTOR = ns.q(ns.SOAP11, "actor")
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Unsigned(Claims):
    """A message without a signature, not yet trusted.

    Attributes:
        raw: the bytes as received; with a token they hold a password, so they are never kept.
        payload: the Body's one child.
        username: of its UsernameToken; empty: it has none.
        password: of its UsernameToken.
    """

    raw: bytes
    payload: Element
    username: str = ""
    password: str = field(default="", repr=False)


def shape_office(raw: bytes, limits: Limits) -> Envelope | Unsigned:
    """Parse an office's message and hold it against the shape it has with a signature, or against that without.

    Raises:
        PeerFault: any leaf of the first group in errors.py but SignatureInvalid and ActionMismatch.
    """
    root = parse(raw, limits)
    if root.find(f"{HEADER}/{SECURITY}/{SIGNATURE}") is not None:
        return shape_of(root, raw)
    if root.tag != ns.q(ns.SOAP11, "Envelope"):
        raise VersionMismatch(detail=f"root {root.tag[:200]}")
    refuse_soap_attributes(root)
    parts = children_of(root)
    if [part.tag for part in parts] not in ([BODY], [HEADER, BODY]):
        raise EnvelopeShape(detail="children of Envelope")
    body = parts[-1]
    if not set(body.attrib) <= {WSU_ID}:
        raise EnvelopeShape(detail="Body's attributes")
    (payload,) = children_of(body, 1)
    refuse_twin_ids(root)
    return Unsigned(raw, payload, *_token(parts[0] if len(parts) > 1 else None))


def _token(header: Element | None) -> tuple[str, str]:
    """User name and password of the one Security header; empty when there is none."""
    found = ("", "")
    securities = 0
    for child in () if header is None else children_of(header):
        if child.tag != SECURITY:
            refuse_must_understand(child)
            continue
        securities += 1
        if securities > 1 or _ACTOR in child.attrib:
            raise EnvelopeShape(detail="two Security headers, or one for another actor")
        found = _username_token(child)
    return found


def _username_token(security: Element) -> tuple[str, str]:
    children = {child.tag: child for child in children_of(security)}
    if len(children) != len(security) or not set(children) <= {_USERNAME_TOKEN, _TIMESTAMP}:
        raise EnvelopeShape(detail="children of Security")
    token = children.get(_USERNAME_TOKEN)
    if token is None:
        return "", ""
    elements = children_of(token)
    parts = {part.tag: part for part in elements}
    if len(parts) < len(elements) or parts.keys() - _BESIDE != {_USERNAME, _PASSWORD} or elements[0].tag != _USERNAME:
        raise EnvelopeShape(detail="UsernameToken is not Username, Password and perhaps Nonce and Created")
    if any(len(part) for part in elements):
        raise EnvelopeShape(detail="elements inside those of the UsernameToken")
    if parts[_PASSWORD].get("Type", PASSWORD_TEXT) != PASSWORD_TEXT:
        raise EnvelopeShape(detail="Password is not PasswordText")
    name, password = (parts[tag].text or "" for tag in (_USERNAME, _PASSWORD))
    if not name or not password or len(name) > _LONGEST or len(password) > _LONGEST:
        raise EnvelopeShape(detail="UsernameToken's length")
    return name, password
