"""Spyne knows exactly the operations of utility.wsdl, and nothing of a defect leaves through it."""

from __future__ import annotations

import sys

import pytest
from gridpost.server import soap, spyne_compat
from lxml import etree

from gridpost import ns, schemas
from gridpost.errors import Item, NotGranted, SchemaInvalid

WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
SOAP = "{http://schemas.xmlsoap.org/wsdl/soap/}"
BODY = f'<MeterReadingsResponseMessage xmlns="{ns.METER_READINGS_MESSAGE}"></MeterReadingsResponseMessage>'.encode()
ASKED = ns.q(ns.METER_READINGS_MESSAGE, "GetMeterReadings")


def clark(element, name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{element.nsmap[prefix]}}}{local}"


def written_in(name: str) -> list[tuple[str, str, str, str]]:
    """Operation, SOAPAction, element in and out of a WSDL, by the rules of WSDL 1.1, sections 2.4 and 3.4."""
    root = etree.fromstring(schemas.documents()[name])
    parts = {one.get("name"): clark(one[-1], one[-1].get("element")) for one in root.iter(f"{WSDL}message")}
    actions = {
        one.get("name"): one.find(f"{SOAP}operation").get("soapAction")
        for one in root.find(f"{WSDL}binding").iterchildren(f"{WSDL}operation")
    }
    return sorted(
        (
            one.get("name"),
            actions[one.get("name")],
            *(parts[one.find(WSDL + way).get("message").partition(":")[2]] for way in ("input", "output")),
        )
        for one in root.find(f"{WSDL}portType").iterchildren(f"{WSDL}operation")
    )


def written_by_hand() -> list[tuple[str, str, str, str]]:
    """Those of both services; an operation that is in both is the same in both."""
    return sorted({*written_in("utility.wsdl"), *written_in("supplier.wsdl")})


def edge(handler):
    return soap.Edge({one.name: handler for one in soap.OPERATIONS})


def call(handler, tag: str = ASKED):
    """What the edge says when its handler does that."""
    said = []
    edge(handler).call(etree.Element(tag), "the call").addCallback(said.append)
    (reply,) = said
    return reply


async def well(given):
    assert given == "the call"
    return soap.Answer(BODY)


def test_spyne_s_table_is_the_wsdl():
    by_hand = written_by_hand()
    assert len(by_hand) == 14 + 7
    assert [tuple(one) for one in edge(well).table()] == by_hand


def test_the_soap_actions_are_those_the_door_holds_a_header_against():
    assert {request: action for _, action, request, _ in written_by_hand()} == dict(schemas.PARTNER_ACTIONS)


def test_an_answer_leaves_as_the_handler_made_it():
    reply = call(well)
    body = etree.fromstring(reply.envelope)[0]
    assert etree.tostring(body[0], method="c14n", exclusive=True) == BODY
    assert reply.answer == soap.Answer(BODY)
    assert reply.error is None


def test_an_answer_of_another_operation_is_a_defect_and_never_leaves():
    async def wrong(_):
        return soap.Answer(b'<EndDeviceEventsResponseMessage xmlns="x"/>')

    reply = call(wrong)
    assert b"internal-error" in reply.envelope
    assert b"EndDeviceEvents" not in reply.envelope


def test_a_refusal_is_a_fault_whose_detail_follows_the_schema():
    async def refuses(_):
        raise SchemaInvalid("two <findings>", items=[Item("a", "one & only", "/x"), Item("b", "other")])

    reply = call(refuses)
    (fault,) = etree.fromstring(reply.envelope)[0]
    assert fault.findtext("faultcode").partition(":")[2] == "Client"
    assert fault.findtext("faultstring") == "schema-invalid: two <findings>"
    (detail,) = fault.find("detail")
    schemas.validate(detail)
    assert [one.findtext("{*}reason") for one in detail.iter("{*}Error")] == ["one & only", "other"]
    assert isinstance(reply.error, SchemaInvalid)


@pytest.mark.parametrize("synchronous", [True, False])
def test_nothing_of_a_defect_is_told(synchronous):
    async def broken(_):
        raise ValueError("the database password is swordfish")

    def at_once(_):
        raise ValueError("the database password is swordfish")

    reply = call(at_once if synchronous else broken)
    assert b"swordfish" not in reply.envelope
    assert b"internal-error" in reply.envelope
    assert b"Traceback" not in reply.envelope


def test_an_element_that_is_no_operation_is_refused():
    reply = call(well, "{urn:x}Anything")
    assert reply.answer is None
    assert b"Fault" in reply.envelope


def test_a_refusal_before_any_handler_is_written_the_same_way():
    envelope = edge(well).refused(NotGranted("no"), ns.q(ns.MAILBOX, "PeekMailbox"))
    (detail,) = etree.fromstring(envelope).find(".//detail")
    assert detail.tag == ns.q(ns.MAILBOX, "MailboxFaultMessage")
    schemas.validate(detail)


def test_spyne_s_own_transports_are_never_imported():
    assert "spyne.server.twisted" not in sys.modules
    spyne_compat.repair()  # again: nothing happens
    assert "cgi" in sys.modules or sys.version_info < (3, 13)


def test_what_stands_in_for_cgi_reads_a_content_type():
    parsed = spyne_compat._cgi().parse_header('text/xml; charset="utf-8"; action=x')
    assert parsed == ("text/xml", {"charset": "utf-8", "action": "x"})
