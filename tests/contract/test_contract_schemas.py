"""The XSDs and the WSDL themselves, and gridpost.schemas, held against an independent XSD engine (xmlschema)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
import xmlschema
from lxml import etree

from gridpost import ns, schemas
from gridpost.errors import SchemaInvalid

XS = f"{{{ns.XSD}}}"
XSD_NAMES = sorted(name for name in schemas.documents() if name.endswith(".xsd"))

READINGS = f"""
<m:MeterReadings xmlns:m="{ns.METER_READINGS}">
 <m:MeterReading>
  <m:isCoincidentTrigger>false</m:isCoincidentTrigger>
  <m:IntervalBlocks>
   <m:IntervalReadings>
    <m:reportedDateTime>2026-03-01T00:20:00Z</m:reportedDateTime><m:source>pulse</m:source>
    <m:timeStamp>2026-03-01T00:15:00Z</m:timeStamp><m:value>0.125000</m:value>
    <m:ReadingQualities><m:comment>S14</m:comment><m:source>MDP</m:source><m:timeStamp>2026-03-01T00:15:00Z</m:timeStamp>
     <m:ReadingQualityType ref="2.8.0"/></m:ReadingQualities>
    <m:timePeriod><m:end>2026-03-01T00:15:00Z</m:end><m:start>2026-03-01T00:00:00Z</m:start></m:timePeriod>
   </m:IntervalReadings>
   <m:IntervalReadings><m:timeStamp>2026-03-01T08:30:00+08:00</m:timeStamp>
    <m:ReadingQualities><m:ReadingQualityType ref="2.5.259"/></m:ReadingQualities></m:IntervalReadings>
   <m:ReadingType ref="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/>
  </m:IntervalBlocks>
  <m:Meter><m:mRID>M1</m:mRID><m:Names><m:name>E1</m:name><m:NameType><m:description>stream</m:description>
   <m:name>channel</m:name><m:NameTypeAuthority><m:description>us</m:description><m:name>gridpost</m:name>
   </m:NameTypeAuthority></m:NameType></m:Names>
   <m:status><m:dateTime>2026-03-01T00:00:00Z</m:dateTime><m:reason>r</m:reason><m:remark>k</m:remark>
    <m:value>ok</m:value></m:status></m:Meter>
  <m:Readings><m:reason>billing</m:reason><m:timeStamp>2026-03-01T00:00:00Z</m:timeStamp><m:value>-17.</m:value>
   <m:ReadingType ref="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/></m:Readings>
  <m:UsagePoint><m:mRID>UP1</m:mRID><m:Names><m:name>pole 7</m:name></m:Names></m:UsagePoint>
  <m:valuesInterval><m:end>2026-03-01T00:30:00Z</m:end><m:start>2026-03-01T00:00:00Z</m:start></m:valuesInterval>
 </m:MeterReading>
 <m:ReadingQualityType><m:mRID>2.8.0</m:mRID><m:category>8</m:category><m:subCategory>0</m:subCategory>
  <m:systemId>2</m:systemId><m:Names><m:name>estimated</m:name></m:Names></m:ReadingQualityType>
 <m:ReadingType><m:mRID>0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0</m:mRID><m:accumulation>4</m:accumulation>
  <m:aggregate>0</m:aggregate><m:commodity>1</m:commodity><m:consumptionTier>0</m:consumptionTier><m:cpp>0</m:cpp>
  <m:currency>0</m:currency><m:flowDirection>1</m:flowDirection><m:macroPeriod>0</m:macroPeriod>
  <m:measurementKind>12</m:measurementKind><m:measuringPeriod>2</m:measuringPeriod><m:multiplier>3</m:multiplier>
  <m:phases>0</m:phases><m:tou>0</m:tou><m:unit>72</m:unit>
  <m:argument><m:denominator>0</m:denominator><m:numerator>0</m:numerator></m:argument>
  <m:interharmonic><m:denominator>0</m:denominator><m:numerator>0</m:numerator></m:interharmonic>
  <m:Names><m:name>kWh</m:name></m:Names></m:ReadingType>
</m:MeterReadings>"""

HEADER = f"""
<w:Header xmlns:h="{ns.MESSAGE}">
 <h:Verb>created</h:Verb><h:Noun>%s</h:Noun><h:Revision>2</h:Revision>
 <h:ReplayDetection><h:Nonce>n</h:Nonce><h:Created>2026-03-01T00:15:00Z</h:Created></h:ReplayDetection>
 <h:Context>PRODUCTION</h:Context><h:Timestamp>2026-03-01T00:15:01Z</h:Timestamp><h:Source>IED-7</h:Source>
 <h:AsyncReplyFlag>false</h:AsyncReplyFlag><h:ReplyAddress>urn:none</h:ReplyAddress><h:AckRequired>true</h:AckRequired>
 <h:User><h:UserID>u</h:UserID><h:Organization>o</h:Organization></h:User>
 <h:MessageID>id-1</h:MessageID><h:CorrelationID>c</h:CorrelationID><h:Comment>hello</h:Comment>
 <h:Property><h:Name>sequence</h:Name><h:Value>7</h:Value></h:Property><h:Property><h:Name>x</h:Name></h:Property>
 <z:Own xmlns:z="urn:somebody:else"><z:deep/></z:Own>
</w:Header>"""

EVENTS = f"""
<e:EndDeviceEvents xmlns:e="{ns.END_DEVICE_EVENTS}">
 <e:EndDeviceEvent><e:mRID>ev1</e:mRID><e:createdDateTime>2026-03-01T00:00:00Z</e:createdDateTime>
  <e:issuerID>i</e:issuerID><e:issuerTrackingID>t</e:issuerTrackingID><e:reason>cut</e:reason>
  <e:severity>high</e:severity><e:userID>u</e:userID>
  <e:Assets><e:mRID>M1</e:mRID><e:Names><e:name>n</e:name></e:Names></e:Assets>
  <e:EndDeviceEventDetails><e:name>volts</e:name><e:value>0</e:value></e:EndDeviceEventDetails>
  <e:EndDeviceEventType ref="3.26.0.85"/>
  <e:Names><e:name>n</e:name><e:NameType><e:description>d</e:description><e:name>log</e:name><e:NameTypeAuthority>
   <e:description>d</e:description><e:name>us</e:name></e:NameTypeAuthority></e:NameType></e:Names>
  <e:status><e:dateTime>2026-03-01T00:00:00Z</e:dateTime><e:reason>r</e:reason><e:remark>k</e:remark>
   <e:value>open</e:value></e:status><e:UsagePoint><e:mRID>UP1</e:mRID></e:UsagePoint></e:EndDeviceEvent>
 <e:EndDeviceEventType><e:mRID>3.26.0.85</e:mRID><e:domain>26</e:domain><e:eventOrAction>85</e:eventOrAction>
  <e:subDomain>0</e:subDomain><e:type>3</e:type><e:Names><e:name>power failure</e:name></e:Names></e:EndDeviceEventType>
</e:EndDeviceEvents>"""


def created(noun: str, payload: str) -> etree._Element:
    text = (
        f'<w:Created{noun} xmlns:w="http://iec.ch/TC57/2011/{noun}Message">{HEADER % noun}'
        f"<w:Payload>{payload}<w:Format>XML</w:Format></w:Payload></w:Created{noun}>"
    )
    return etree.fromstring(text)


def replaced(old: str, new: str) -> etree._Element:
    assert READINGS.count(old) >= 1
    return created("MeterReadings", READINGS.replace(old, new, 1))


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, xmlschema.XMLSchema]]:
    """The same files through another XSD engine, resolved by their relative addresses on disk.

    Other tests load Twisted's testing module; zope then marks the ABCs, and xmlschema stumbles over the marks.
    """
    folder = tmp_path_factory.mktemp("contract")
    for name, content in schemas.documents().items():
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        for kind in xmlschema.XMLSchema.__mro__:
            if "__provides__" in vars(kind):
                patch.delattr(kind, "__provides__")
        yield {
            noun: xmlschema.XMLSchema(str(folder / name), allow="local")
            for noun, name in [
                ("MeterReadings", "meter_readings_message.xsd"),
                ("EndDeviceEvents", "end_device_events_message.xsd"),
            ]
        }


# --- the documents ---------------------------------------------------------------------------------------------------


def test_documents_are_the_wsdl_and_every_schema_in_the_folder():
    root = Path(__file__).parents[2]
    ours = [
        *root.glob("xsd/*.xsd"),
        *(one for one in root.glob("wsdl/*.wsdl") if not one.name.startswith("multispeak")),
    ]
    on_disk = {path.name: path.read_bytes() for path in ours}
    assert dict(schemas.documents()) == on_disk
    assert len(on_disk) > 9


@pytest.mark.parametrize("name", XSD_NAMES)
def test_every_component_of_a_schema_is_documented(name):
    tree = etree.fromstring(schemas.documents()[name])
    kinds = {f"{XS}{kind}" for kind in ("element", "complexType", "simpleType", "attribute", "any")}
    silent = [
        node.get("name") or node.get("ref")
        for node in tree.iter(*kinds)
        if not (node.findtext(f"{XS}annotation/{XS}documentation") or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("name", XSD_NAMES)
def test_schemas_follow_the_shape_that_toolkits_accept(name):
    tree = etree.fromstring(schemas.documents()[name])
    assert tree.get("elementFormDefault") == "qualified"
    assert schemas.FILES[tree.get("targetNamespace")] == name
    assert [node.get("schemaLocation") for node in tree.iter(f"{XS}import") if "/" in node.get("schemaLocation")] == []
    anonymous = [node for node in tree.iter(f"{XS}complexType", f"{XS}simpleType") if node.get("name") is None]
    assert anonymous == []
    assert tree.xpath("//@nillable") == []
    for wildcard in tree.iter(f"{XS}any"):
        assert wildcard.getnext() is None
        assert (wildcard.get("namespace"), wildcard.get("processContents")) == ("##other", "lax")


def test_no_complex_type_name_is_used_in_two_namespaces():
    owners: dict[str, list[str]] = {}
    for name in XSD_NAMES:
        for node in etree.fromstring(schemas.documents()[name]).iter(f"{XS}complexType", f"{XS}simpleType"):
            owners.setdefault(node.get("name"), []).append(name)
    assert {key: names for key, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize(
    ("name", "actions", "count"),
    [
        ("metering", schemas.DEVICE_ACTIONS, 4),
        ("utility", schemas.OFFICE_ACTIONS, 14),
        ("supplier", schemas.SUPPLIER_ACTIONS, 8),
    ],
)
def test_a_wsdl_agrees_with_its_table_of_soap_actions(name, actions, count):
    text = schemas.documents()[f"{name}.wsdl"]
    tree = etree.fromstring(text)
    wsdl, soap = f"{{{ns.WSDL}}}", "{http://schemas.xmlsoap.org/wsdl/soap/}"
    parts = {message.get("name"): message.findall(f"{wsdl}part") for message in tree.iter(f"{wsdl}message")}
    found = {}
    for operation in tree.find(f"{wsdl}portType").iter(f"{wsdl}operation"):
        (part,) = parts[operation.find(f"{wsdl}input").get("message").split(":")[1]]
        prefix, local = part.get("element").split(":")
        bound = tree.find(f"{wsdl}binding/{wsdl}operation[@name='{operation.get('name')}']")
        found[f"{{{tree.nsmap[prefix]}}}{local}"] = bound.find(f"{soap}operation").get("soapAction")
        assert operation.get("name") != local
        assert len(operation.findall(f"{wsdl}fault")) == 1
        assert operation.findtext(f"{wsdl}documentation").strip()
        faults = [fault.get("name") for fault in bound.iter(f"{soap}fault")]
        assert faults == [operation.find(f"{wsdl}fault").get("name")]
    assert found == dict(actions)
    assert len(found) == count
    assert text.count(f"http://localhost/{name}".encode()) == 1
    assert {part.get("name") for part in tree.iter(f"{wsdl}part")} == {"msg", "fault"}
    assert all(len(message) == 1 for message in parts.values())
    assert tree.xpath("//*[local-name() = 'header' or local-name() = 'Policy']") == []


# --- what they accept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noun", "payload"), [("MeterReadings", READINGS), ("EndDeviceEvents", EVENTS)])
def test_the_whole_profile_is_accepted(independent, noun, payload):
    message = created(noun, payload)
    schemas.validate(message)
    assert list(independent[noun].iter_errors(message)) == []


def test_every_element_of_the_profiles_is_in_the_examples():
    used = {node.tag for doc in (READINGS, EVENTS) for node in etree.fromstring(doc).iter()}
    used |= {node.tag for node in created("MeterReadings", READINGS).iter(f"{{{ns.MESSAGE}}}*")}
    request_side = (ns.METER_READINGS, ns.END_DEVICE_EVENTS)
    declared = {
        f"{{{uri}}}{node.get('name')}"
        for uri in request_side
        for node in etree.fromstring(schemas.documents()[schemas.FILES[uri]]).iter(f"{XS}element")
    }
    assert declared <= used


@pytest.mark.parametrize("payload", [READINGS, EVENTS])
def test_a_bare_document_is_validated_as_it_stands(payload):
    schemas.validate(etree.fromstring(payload))


@pytest.mark.parametrize("noun", ["MeterReadings", "EndDeviceEvents"])
def test_answers_are_valid_and_may_grow_behind_the_receipt(independent, answers, noun):
    receipt_answer, fault_answer = answers
    for raw in (receipt_answer(noun, "id-1"), receipt_answer(noun, "id-1", '<z:Later xmlns:z="urn:z"/>')):
        body = etree.fromstring(raw)[0][0]
        schemas.validate(body)
        assert list(independent[noun].iter_errors(body)) == []
    detail = etree.fromstring(fault_answer(noun)).find(".//detail")[0]
    schemas.validate(detail)
    assert list(independent[noun].iter_errors(detail)) == []


@pytest.mark.parametrize(
    "literal", ["0", "-0.5", "+1", ".5", "5.", "0001.50", "123456789012345678", "0.000000000000000001"]
)
def test_decimal_numerals_pass(independent, literal):
    Decimal(literal)
    message = replaced("0.125000", literal)
    schemas.validate(message)
    assert list(independent["MeterReadings"].iter_errors(message)) == []


# --- what they refuse ------------------------------------------------------------------------------------------------

REFUSED = {
    "exponent": ("0.125000", "1e-7"),
    "not a number": ("0.125000", "NaN"),
    "digit group": ("0.125000", "1_000"),
    "Arabic digits": ("0.125000", "\N{ARABIC-INDIC DIGIT ONE}"),
    "comma": ("0.125000", "0,125"),
    "empty value": ("0.125000", ""),
    "19 digits": ("0.125000", "1234567890.123456789"),
    "no such day": ("2026-03-01T00:15:00Z</m:timeStamp><m:value>", "2026-02-30T00:15:00Z</m:timeStamp><m:value>"),
    "mRID of 129 characters": ("<m:mRID>M1<", f"<m:mRID>{'x' * 129}<"),
    "comment of 1025 characters": ("S14", "x" * 1025),
    "no ref": (' ref="2.8.0"', ""),
    "unknown attribute": (' ref="2.8.0"', ' ref="2.8.0" x="1"'),
    "unknown element": ("<m:mRID>M1</m:mRID>", "<m:mrid>M1</m:mrid>"),
    "wrong order": ("<m:value>0.125000</m:value>", "<m:value>0.125000</m:value><m:source>again</m:source>"),
    "awaiting a factor": (
        '<m:ReadingType ref="0.0.2.4',
        '<m:PendingCalculation><m:offset>1</m:offset></m:PendingCalculation><m:ReadingType ref="0.0.2.4',
    ),
    "text between elements": ("<m:MeterReading>", "<m:MeterReading>12"),
    "nil": (
        "<m:value>0.125000<",
        '<m:value xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">0.125000<',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_both_engines(independent, case):
    message = replaced(*REFUSED[case])
    assert not independent["MeterReadings"].is_valid(message)
    with pytest.raises(SchemaInvalid):
        schemas.validate(message)


def test_a_second_payload_and_an_empty_one_are_refused():
    for payload in (READINGS + READINGS, "", "<x xmlns='urn:other'/>"):
        with pytest.raises(SchemaInvalid):
            schemas.validate(created("MeterReadings", payload))


def test_an_unknown_root_is_refused():
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(etree.fromstring("<Nobody xmlns='urn:nobody'/>"))
    assert caught.value.items[0].path == "/*:Nobody[1]"


# --- how they say so -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("default_namespace", [False, True])
def test_a_finding_names_its_place_whatever_the_senders_prefixes(default_namespace):
    text = READINGS.replace('"0.0.2.4.', '"').replace("-17.", "seventeen")
    if default_namespace:
        text = text.replace("<m:", "<").replace("</m:", "</").replace("xmlns:m=", "xmlns=")
    envelope = etree.fromstring(
        f'<s:Envelope xmlns:s="{ns.SOAP11}"><s:Body>{etree.tostring(created("MeterReadings", text)).decode()}'
        "</s:Body></s:Envelope>"
    )
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(envelope[0][0])
    (item,) = caught.value.items
    assert item.code == "schema-invalid"
    assert "'seventeen'" in item.reason
    assert "{" not in item.reason
    assert item.path == (
        "/mrm:CreatedMeterReadings[1]/mrm:Payload[1]/m:MeterReadings[1]/m:MeterReading[1]/m:Readings[1]/m:value[1]"
    )


def test_two_findings_at_one_place_are_both_told():
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(replaced('ref="2.8.0"', 'reff="2.8.0"'))
    assert ["reff" in item.reason for item in caught.value.items] == [True, False]
    assert "required" in caught.value.items[1].reason


def test_items_are_capped_and_a_long_value_is_cut():
    bad = f"<m:IntervalReadings><m:value>{'x' * 5000}</m:value></m:IntervalReadings>" * 50
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(replaced("<m:IntervalBlocks>", "<m:IntervalBlocks>" + bad))
    assert len(caught.value.items) == 20
    assert max(len(item.reason) for item in caught.value.items) < 500
    assert caught.value.items[19].path.endswith("/m:IntervalBlocks[1]/m:IntervalReadings[20]/m:value[1]")


def _row(count: int, inner: str) -> etree._Element:
    blocks = f"<m:IntervalReadings>{inner}</m:IntervalReadings>" * count
    return replaced("<m:IntervalBlocks>", "<m:IntervalBlocks>" + blocks)


def test_a_long_row_of_right_values_passes_and_one_wrong_value_in_it_is_found():
    schemas.validate(_row(9000, "<m:value>1</m:value>"))
    message = _row(9000, "<m:value>1</m:value>")
    list(message.iter(f"{{{ns.METER_READINGS}}}value"))[8500].text = "eight"
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(message)
    (item,) = caught.value.items
    assert item.path.endswith("/m:IntervalReadings[8501]/m:value[1]")


def test_a_long_row_of_wrong_siblings_is_refused_without_a_search_for_each_place():
    # Naming each place costs the square of the row's length (20 s for 70,000), so all are named at the top.
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(_row(40000, "<m:ReadingQualities/>"))
    assert {item.path for item in caught.value.items} == {"/mrm:CreatedMeterReadings[1]"}
    assert "Missing child element" in caught.value.reason


def test_attributes_by_the_thousand_are_refused_without_a_word_for_each():
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(_row(40000, '<m:ReadingQualities x="1"/>'))
    (item,) = caught.value.items
    assert item.path == "/mrm:CreatedMeterReadings[1]"
    assert "1000 attributes or more" in item.reason


def test_the_first_threads_of_a_process_compile_side_by_side():
    # lxml's loader of imports is one for the process: without a lock 7 of 10 fresh processes failed in one thread.
    code = (
        "import threading\n"
        "from gridpost import schemas\n"
        "together = threading.Barrier(32)\n"
        "def work():\n"
        "    together.wait(30)\n"
        "    schemas.load()\n"
        "threads = [threading.Thread(target=work) for _ in range(32)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    children = [subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60) for _ in range(5)]
    assert [child.stderr for child in children] == [b""] * 5


def test_threads_do_not_mix_their_findings():
    together = threading.Barrier(8)

    def work(number: int) -> list[str]:
        message = replaced("0.125000", f"bad{number}")
        together.wait(30)
        return [_reason_of(message) for _ in range(100)]

    for _ in range(3):  # the threads of each pool are new, so each compiles its own schema
        with ThreadPoolExecutor(8) as pool:
            for number, reasons in enumerate(pool.map(work, range(8))):
                assert [reason for reason in reasons if f"'bad{number}'" not in reason] == []


def _reason_of(message: etree._Element) -> str:
    with pytest.raises(SchemaInvalid) as caught:
        schemas.validate(message)
    (item,) = caught.value.items
    return item.reason


def test_a_schema_location_in_a_message_is_not_followed(metering_peer):
    message = replaced(
        "<m:MeterReading>",
        '<m:MeterReading xmlns:i="http://www.w3.org/2001/XMLSchema-instance" '
        f'i:schemaLocation="urn:x {metering_peer.url} {ns.METER_READINGS} {metering_peer.url}" '
        f'i:noNamespaceSchemaLocation="{metering_peer.url}">',
    )
    metering_peer.answer = b"<x/>"
    schemas.validate(message)
    assert metering_peer.fetched == []


def test_compiling_touches_no_network():
    # No schema, no DTD and no WSDL may be fetched: a socket or a name look-up ends the child.
    code = (
        "import sys\n"
        "from gridpost import schemas\n"
        "def hook(event, args):\n"
        "    if event.startswith('socket.'): raise SystemExit(event)\n"
        "sys.addaudithook(hook)\n"
        "schemas.load(); print('compiled')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.stdout == "compiled\n", done.stderr
