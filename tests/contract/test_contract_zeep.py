"""zeep reads the served WSDL and sends right messages from it, without a line about our namespaces by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import zeep
import zeep.exceptions
import zeep.helpers
from lxml import etree

from gridpost import ns, schemas

UTC_TIME = datetime(2026, 3, 1, 0, 15, tzinfo=UTC)
# of no operation of metering.wsdl
OTHERS = {
    "tree_head.xsd",
    "documents.xsd",
    "tariff.xsd",
    "supply.xsd",
    "completeness.xsd",
    "channels.xsd",
    "mailbox.xsd",
    "meter_config.xsd",
    "meter_config_message.xsd",
}
KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


@pytest.fixture
def client(metering_peer):
    with zeep.Client(metering_peer.url + "?wsdl") as client:
        yield client


def header(noun: str) -> dict[str, object]:
    return {
        "Verb": "created",
        "Noun": noun,
        "Timestamp": UTC_TIME,
        "Source": "IED-7",
        "MessageID": "0195-1",
        "Property": [{"Name": "sequence", "Value": "1"}],
    }


def readings() -> dict[str, object]:
    return {
        "MeterReading": [
            {
                "IntervalBlocks": [
                    {
                        "IntervalReadings": [
                            {"timeStamp": UTC_TIME, "value": Decimal("0.125")},
                            {
                                "timeStamp": datetime(2026, 3, 1, 0, 30, tzinfo=UTC),
                                "ReadingQualities": [{"ReadingQualityType": {"ref": "2.5.259"}}],
                            },
                        ],
                        "ReadingType": {"ref": KWH},
                    }
                ],
                "Meter": {"mRID": "M1"},
                "UsagePoint": {"mRID": "UP1"},
            }
        ]
    }


def events() -> dict[str, object]:
    return {
        "EndDeviceEvent": [
            {
                "mRID": "ev1",
                "createdDateTime": UTC_TIME,
                "Assets": {"mRID": "M1"},
                "EndDeviceEventType": {"ref": "3.26.0.85"},
            }
        ]
    }


def publish(client, noun):
    operation = getattr(client.service, f"PublishCreated{noun}")
    payload = {"MeterReadings": readings, "EndDeviceEvents": events}[noun]()
    return operation(Header=header(noun), Payload={noun: payload})


def test_all_documents_are_found_at_their_relative_addresses(client, metering_peer):
    assert sorted(set(metering_peer.fetched)) == sorted(
        [
            "/metering?wsdl",
            *(f"/{name}" for name in schemas.documents() if name.endswith(".xsd") and name not in OTHERS),
        ]
    )
    assert set(client.service._operations) == {
        "PublishCreatedMeterReadings",
        "PublishCreatedEndDeviceEvents",
        "RequestEndDeviceControls",
        "PublishCreatedEncryptedReadings",
    }


@pytest.mark.parametrize("noun", ["MeterReadings", "EndDeviceEvents"])
def test_a_push_is_valid_and_its_receipt_is_typed(client, metering_peer, answers, noun):
    receipt_answer, _ = answers
    metering_peer.answer = receipt_answer(noun, "0195-1")
    answer = publish(client, noun)

    ((action, sent),) = metering_peer.requests
    body = etree.fromstring(sent).find(f"{{{ns.SOAP11}}}Body")
    assert len(body) == 1
    schemas.validate(body[0])
    assert action.strip('"') == schemas.DEVICE_ACTIONS[body[0].tag]

    receipt = answer.Payload.Receipt
    assert (answer.Reply.Result, answer.Header.CorrelationID) == ("OK", "0195-1")
    assert (receipt.messageId, receipt.partition, receipt.seq, receipt.stored) == ("0195-1", 0, 41, 2)
    assert len(receipt.contentDigest) == 32
    assert [reference.uri for reference in receipt.Reference] == ["#Body", "#Timestamp"]
    assert receipt.recordedAt == datetime(2026, 3, 1, 0, 15, 2, 250000, tzinfo=UTC)


def test_the_values_sent_are_the_values_given(client, metering_peer, answers):
    metering_peer.answer = answers[0]("MeterReadings", "0195-1")
    publish(client, "MeterReadings")
    root = etree.fromstring(metering_peer.requests[0][1])
    names = {"m": ns.METER_READINGS}
    assert root.xpath("//m:IntervalReadings/m:value/text()", namespaces=names) == ["0.125"]
    assert root.xpath("//m:ReadingType/@ref", namespaces=names) == [KWH]
    times = root.xpath("//m:IntervalReadings/m:timeStamp/text()", namespaces=names)
    assert [datetime.fromisoformat(text).minute for text in times] == [15, 30]


def test_strict_zeep_passes_over_what_is_added_behind_the_receipt(client, metering_peer, answers):
    metering_peer.answer = answers[0]("MeterReadings", "0195-1", '<z:Later xmlns:z="urn:later"><z:x/></z:Later>')
    assert publish(client, "MeterReadings").Payload.Receipt.seq == 41


@pytest.mark.parametrize("noun", ["MeterReadings", "EndDeviceEvents"])
def test_a_refusal_arrives_as_a_fault_whose_detail_the_wsdl_types(client, metering_peer, answers, noun):
    metering_peer.answer, metering_peer.status = answers[1](noun), 500
    with pytest.raises(zeep.exceptions.Fault) as caught:
        publish(client, noun)
    (detail,) = caught.value.detail
    element = client.get_element(detail.tag)
    refused = element.parse(detail, client.wsdl.types)
    assert (refused.Reply.Result, refused.Reply.Error[0].code) == ("FAILED", "readings-refused")
    assert refused.Reply.Error[0].xpath == "/m:MeterReadings[1]/m:MeterReading[2]"
    assert (refused.Refusal.retry, len(refused.Refusal.signatureDigest)) == ("after-fix", 32)
