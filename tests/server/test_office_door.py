"""Every forgery at the office's door: nothing reaches the schema engine, Spyne or a handler before it is genuine."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest
from gridpost.server.config import Config
from gridpost.server.office import door as door_module
from gridpost.server.office.callers import Hello
from gridpost.server.office.service import Parts, door_of
from lxml import etree

from gridpost import errors, messages, ns, schemas, testing
from gridpost.controls import Role
from gridpost.model import Header
from gridpost.partners import Partner, Ways
from gridpost.requests import PeekMailbox

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

from forgeries import forgeries, genuine
from forging import Setting

NOW = testing.NOW_UTC_MS
BEFORE = {
    leaf.code
    for leaf in (
        errors.MessageTooLarge, errors.MalformedXml, errors.ForbiddenMarkup, errors.LimitExceeded,
        errors.VersionMismatch, errors.MustUnderstand, errors.EnvelopeShape, errors.NotAuthenticated,
    )
}  # fmt: skip
HELLO = Hello("192.0.2.7:49152", "192.0.2.7")


@pytest.fixture
def office(post_office, monkeypatch):
    """The door over a real store with the forgeries' victim as a partner; says what went in to be looked at."""

    async def aside(work):
        return work()

    ca = testing.ThrowawayCA()
    keys = {name: ca.issue_device(name) for name in ("IED1", "IED2")}
    for name, key in keys.items():
        post_office.store.add_partner(Partner(name, name, Role.UTILITY, "north", Ways(username=True)))
        post_office.store.add_partner_certificate(name, key.certificate, "signature")
    parts = Parts(
        Config(post_office.folder), post_office.store, post_office.store, post_office.signer, post_office.clock,
        post_office.audit, post_office.worker, aside, aside,
    )  # fmt: skip
    made = door_of(parts)
    looked = []
    validate = door_module.schemas.validate
    monkeypatch.setattr(
        door_module.schemas, "validate", lambda element: (looked.append(element.tag), validate(element))
    )

    def receive(raw: bytes, hello: Hello = HELLO) -> tuple[str, list[str]]:
        """The code of the answer, and what the schema engine was shown."""
        looked.clear()
        reply = asyncio.run(made.receive(raw, hello))
        fault = etree.fromstring(reply.body).find(".//faultstring")
        return "ok" if fault is None else fault.text.partition(":")[0], list(looked)

    receive.keys = keys
    return receive


def test_no_forgery_gets_further_than_its_signature(office):
    channel = testing.channel(1)
    setting = Setting(
        signer=office.keys["IED1"], source="IED1", channel=channel, now_utc_ms=NOW,
        neighbour=office.keys["IED2"], neighbour_source="IED2", foreign=testing.channel(9, "M9"),
    )  # fmt: skip
    codes, wrong = Counter(), []
    for forgery in forgeries(setting):
        code, looked = office(forgery.raw)
        codes[code] += 1
        early = {"signature-invalid", *BEFORE} >= set(forgery.codes)
        # One is a partner's own question, signed well: it may be looked at.
        if (
            (looked and (early or looked[0] not in schemas.OFFICE_ACTIONS))
            or code == "ok"
            or (early and code not in BEFORE)
        ):
            wrong.append((forgery.name, code, looked))
    assert wrong == []
    assert codes["not-authenticated"] > 100
    # Those that are genuine but for their content are devices' pushes, which have no place here.
    assert {office(one.raw)[0] for one in genuine(setting)[:20]} == {"unknown-operation"}


def test_a_genuine_question_is_shown_to_the_schema_engine(office):
    from gridpost import exchange

    header = Header("get", "Mailbox", NOW, "IED1", "q1")
    raw = exchange.seal(messages.encode(PeekMailbox(header)), office.keys["IED1"], NOW)
    assert office(raw) == ("ok", [ns.q(ns.MAILBOX, "PeekMailbox")])


TOKEN = '<wsse:UsernameToken xmlns:wsse="{wsse}">{inside}</wsse:UsernameToken>'
NAME, WORD = "<wsse:Username>IED1</wsse:Username>", "<wsse:Password>a long enough one</wsse:Password>"


@pytest.mark.parametrize(
    ("security", "code"),
    [
        ("", "not-authenticated"),
        (TOKEN.format(wsse=ns.WSSE, inside=NAME + WORD) * 2, "envelope-shape"),
        (TOKEN.format(wsse=ns.WSSE, inside=NAME), "envelope-shape"),
        (TOKEN.format(wsse=ns.WSSE, inside=WORD + NAME), "envelope-shape"),
        (TOKEN.format(wsse=ns.WSSE, inside=NAME + WORD + "<wsse:Nonce>AA==</wsse:Nonce>"), "not-authenticated"),
        (
            TOKEN.format(wsse=ns.WSSE, inside=NAME + WORD.replace("Password>", 'Password Type="urn:digest">', 1)),
            "envelope-shape",
        ),
        (TOKEN.format(wsse=ns.WSSE, inside=NAME.replace("IED1", "I" * 300) + WORD), "envelope-shape"),
        (TOKEN.format(wsse=ns.WSSE, inside=NAME + WORD), "not-authenticated"),  # no TLS here
        ('<other xmlns="urn:x"></other>', "envelope-shape"),
    ],
    ids=["empty", "two", "no password", "order", "nonce", "digest", "long", "no TLS", "other"],
)
def test_a_token_of_any_other_form_is_refused_unread(office, security, code):
    payload = messages.encode(PeekMailbox(Header("get", "Mailbox", NOW, "IED1", "q2"))).decode()
    wrapped = f'<wsse:Security xmlns:wsse="{ns.WSSE}">{security}</wsse:Security>'
    raw = (
        f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Header>{wrapped}</soap:Header>'
        f"<soap:Body>{payload}</soap:Body></soap:Envelope>"
    )
    assert office(raw.encode()) == (code, [])


INSISTENT = b'<soap:Header><a xmlns="x" soap:mustUnderstand="1"/></soap:Header>'


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw.replace(b"<soap:Body>", b'<soap:Body soap:encodingStyle="x">'), "envelope-shape"),
        (lambda raw: raw.replace(b"<soap:Body>", b"<soap:Body>text"), "envelope-shape"),
        (lambda raw: raw.replace(b"</soap:Body>", b"<x/></soap:Body>"), "envelope-shape"),
        (lambda raw: raw.replace(b"<soap:Body>", b"<soap:Body/><soap:Body>"), "envelope-shape"),
        (lambda raw: raw.replace(b"<soap:Body>", INSISTENT + b"<soap:Body>"), "must-understand"),
        (lambda raw: raw.replace(ns.SOAP11.encode(), ns.SOAP12.encode()), "version-mismatch"),
        (lambda raw: b"<!DOCTYPE a>" + raw, "forbidden-markup"),
    ],
)  # fmt: skip
def test_an_unsigned_envelope_has_one_shape_too(office, change, code):
    payload = messages.encode(PeekMailbox(Header("get", "Mailbox", NOW, "IED1", "q3"))).decode()
    raw = f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Body>{payload}</soap:Body></soap:Envelope>'.encode()
    assert office(raw)[0] == "not-authenticated"
    assert office(change(raw)) == (code, [])
