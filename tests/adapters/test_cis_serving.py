"""MultiSpeak asked of us: zeep, built from the WSDLs, against the handlers on a real socket."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zeep
from gridpost.adapters.cis import serving
from gridpost.adapters.cis.serving import ACTION_OF_CODE, OPERATIONS, Call, Later, Page
from gridpost.adapters.cis.tables import Version
from lxml import etree

from gridpost import answers
from gridpost.errors import Item, PeerFault, QueryRefused, UnknownOperation
from gridpost.model import ChannelKey, RegisterReading

ROOT = Path(__file__).parents[2]
AT = 1_772_323_200
KEY = ChannelKey("UP-1", "M1", "E1", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


class FakeOffice:
    """Readings of five meters, one a page; notes what is asked of it."""

    def __init__(self):
        self.registers = [RegisterReading(KEY._replace(meter=f"M{n}"), AT + n, f"{n}.5") for n in range(1, 6)]
        self.asked = []

    def latest(self, meter):
        mine = [one for one in self.registers if one.channel.meter == meter]
        return [*(RegisterReading(one.channel, AT, "0") for one in mine), *mine]

    def readings(self, meter, from_utc, to_utc, after):
        self.asked.append((meter, from_utc, to_utc, after))
        if meter:
            return Page([one for one in self.registers if one.channel.meter == meter], "", 3 if meter == "M5" else 0)
        begin = int(after or 0)
        page = self.registers[begin : begin + 2]
        return Page(page, str(begin + len(page)), len(self.registers) - begin - len(page))

    def cycle(self, billing_cycle, from_utc, to_utc, after):
        self.asked.append((billing_cycle, from_utc, to_utc, after))
        return Page(self.registers[:2] if billing_cycle == "07" else (), "2", 0)

    def read(self, meters, later):
        self.asked.append((list(meters), later))
        return [Item("not-granted", "not yours", meter) for meter in meters if meter == "M9"]

    def propose(self, switches, later):
        self.asked.append((list(switches), later))
        return []


@pytest.fixture(scope="module", params=[("v3", Version.V3), ("v4", Version.V4)], ids=["3.0ac", "4.1.6"])
def served(request):
    """A version's short name, an office, calls as they came, and zeep's service."""
    short, version = request.param
    office, calls = FakeOffice(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                call = serving.read_call(self.rfile.read(int(self.headers["Content-Length"])))
                calls.append((call, self.headers["SOAPAction"]))
                status, body = 200, serving.answer(call, office)
            except PeerFault as error:
                status, body = 500, answers.encode_fault(error)
            self.send_response(status)
            self.send_header("Content-Type", "text/xml; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    client = zeep.Client(str(ROOT / "wsdl" / f"multispeak_{short}_mr.wsdl"), settings=zeep.Settings(strict=True))
    ((binding),) = client.wsdl.bindings
    service = client.create_service(binding, f"http://127.0.0.1:{server.server_address[1]}/multispeak")
    header = client.get_element(f"{{{version}}}MultiSpeakMsgHeader")(UserID="cis", Pwd="secret")

    def ask(operation, **arguments):
        return getattr(service, operation)(_soapheaders=[header], **arguments)

    yield short, office, calls, ask
    server.shutdown()
    server.server_close()


def meter(short, number):
    return {"meterNo": number} if short == "v3" else {"meterID": {"_value_1": number, "meterNo": number}}


def reads(short, result):
    """(meter, values) of each meterRead or meterReading."""
    listed = result.meterRead if short == "v3" else result.meterReading
    return [
        (
            one.meterNo if short == "v3" else one.meterID._value_1,
            [value.value for value in one.readingValues.readingValue],
        )
        for one in listed
    ]


def result_of(answer):
    """zeep gives body and header where a header is declared; the result is the body's one part."""
    body = answer.body
    return body[next(iter(body))] if hasattr(body, "__values__") else body


def test_the_wsdl_names_the_operations_there_are_and_get_methods_too(served):
    short, _, calls, ask = served
    tree = etree.parse(str(ROOT / "wsdl" / f"multispeak_{short}_mr.wsdl"))
    named = tree.xpath("//*[local-name()='portType']/*[local-name()='operation']/@name")
    assert sorted(named) == sorted(OPERATIONS)
    assert sorted(result_of(ask("GetMethods")).string) == sorted(OPERATIONS)
    assert not getattr(result_of(ask("PingURL")), "errorObject", None)
    call, action = calls[-1]
    assert (call.user, call.password, call.operation) == ("cis", "secret", "PingURL")
    assert action == f'"{call.version}/PingURL"'


def test_the_latest_reading_is_the_newest_alone_and_that_of_a_stranger_is_empty(served):
    short, _, _, ask = served
    found = result_of(ask("GetLatestReadingByMeterNo", **meter(short, "M2")))
    assert [value.value for value in found.readingValues.readingValue] == ["2.5"]
    assert (found.meterNo if short == "v3" else found.meterID.meterNo) == "M2"
    nothing = result_of(ask("GetLatestReadingByMeterNo", **meter(short, "M99")))
    assert nothing is None or nothing.readingValues is None


def test_readings_of_a_meter_in_a_period(served):
    short, office, _, ask = served
    found = result_of(ask("GetReadingsByMeterNo", **meter(short, "M3"), startDate=START, endDate=END))
    assert reads(short, found) == [("M3", ["3.5"])]
    assert office.asked[-1] == ("M3", AT, AT + 86_400, "")
    with pytest.raises(zeep.exceptions.Fault, match="query-refused"):
        ask("GetReadingsByMeterNo", **meter(short, "M5"), startDate=START, endDate=END)
    with pytest.raises(zeep.exceptions.Fault):
        ask("GetReadingsByMeterNo", **meter(short, "M3"), startDate=END, endDate=START)


def test_pages_are_asked_for_until_nothing_remains(served):
    short, _, _, ask = served
    seen, after = [], ""
    for _ in range(9):
        answer = ask("GetReadingsByDate", startDate=START, endDate=END, lastReceived=after)
        header = answer.header.MultiSpeakMsgHeader
        seen += [number for number, _ in reads(short, result_of(answer))]
        after = header.LastSent
        if header.ObjectsRemaining == 0:
            break
    assert seen == ["M1", "M2", "M3", "M4", "M5"]


def test_a_billing_cycle_is_a_table(served):
    _, office, _, ask = served
    arguments = {"billingCycle": "07", "billingDate": END, "kWhLookBack": 1, "kWLookBack": 0, "kWLookForward": 2}
    found = result_of(ask("GetReadingsByBillingCycle", **arguments))
    assert [row.split(",")[0] for row in found.formattedBlock[0].valueList.val] == ["M1", "M2"]
    assert office.asked[-1] == ("07", AT, AT + 3 * 86_400, "")
    assert not getattr(
        result_of(ask("GetReadingsByBillingCycle", **{**arguments, "billingCycle": "8"})), "formattedBlock", None
    )


def test_meters_are_asked_to_be_read_and_those_that_are_not_come_back(served):
    short, office, _, ask = served
    if short == "v3":
        listed = {"meterNos": {"string": ["M1", "M9"]}}
    else:
        listed = {"meterIDs": {"meterID": [{"_value_1": "M1"}, {"_value_1": "M9", "meterNo": "M9"}]}}
    named = {"responseURL": "http://cis/", "transactionID": "t-1", "expirationTime": 3600.0}
    found = result_of(ask("InitiateMeterReadByMeterNumber", **listed, **named))
    assert [(one.objectID, one.errorString) for one in found.errorObject] == [("M9", "not yours")]
    assert office.asked[-1] == (["M1", "M9"], Later("t-1", "http://cis/", 3600))


def test_a_switch_is_proposed_and_what_no_switch_does_is_told(served):
    short, office, _, ask = served
    events = [
        {**meter(short, number), "loadActionCode": code}
        for number, code in (("M1", "Disconnect"), ("M2", "Connect"), ("M3", "Arm"))
    ]
    found = result_of(
        ask(
            "InitiateConnectDisconnect", cdEvents={"connectDisconnectEvent": events}, responseURL="http://cis/",
            transactionID="t-2", expirationTime=60.0,
        )
    )  # fmt: skip
    assert [one.objectID for one in found.errorObject] == ["M3"]
    assert office.asked[-1] == ([("M1", "shed"), ("M2", "restore")], Later("t-2", "http://cis/", 60))
    assert set(ACTION_OF_CODE.values()) == {"shed", "restore"}


# --- what cannot be asked --------------------------------------------------------------------------------------------


PERIOD = "<startDate>{}</startDate><endDate>2026-03-02T00:00:00Z</endDate>"
CYCLE = "<billingCycle>07</billingCycle><billingDate>2026-03-02T00:00:00Z</billingDate>"
REFUSED = {
    "no-zone": "<GetReadingsByDate>" + PERIOD.format("2026-03-01T00:00:00") + "</GetReadingsByDate>",
    "no-date": "<GetReadingsByDate>" + PERIOD.format("") + "</GetReadingsByDate>",
    "no-meter": "<GetReadingsByMeterNo>" + PERIOD.format("2026-03-01T00:00:00Z") + "</GetReadingsByMeterNo>",
    "days-of-years": f"<GetReadingsByBillingCycle>{CYCLE}<kWhLookBack>401</kWhLookBack></GetReadingsByBillingCycle>",
    "days-back": f"<GetReadingsByBillingCycle>{CYCLE}<kWhLookBack>-1</kWhLookBack></GetReadingsByBillingCycle>",
    "no-number": f"<GetReadingsByBillingCycle>{CYCLE}<kWhLookBack>x</kWhLookBack></GetReadingsByBillingCycle>",
    "nobody-to-read": "<InitiateMeterReadByMeterNumber/>",
    "too-many": "<InitiateMeterReadByMeterNumber><meterNos>"
    + "<string>M1</string>" * 1001
    + "</meterNos></InitiateMeterReadByMeterNumber>",
    "exponent": "<InitiateMeterReadByMeterNumber><meterNos><string>M1</string></meterNos>"
    "<expirationTime>6e1</expirationTime></InitiateMeterReadByMeterNumber>",
    "no-switch": "<InitiateConnectDisconnect/>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name):
    office = FakeOffice()
    (element,) = etree.fromstring(f'<s xmlns="{Version.V3}">{REFUSED[name]}</s>')
    call = Call(Version.V3, "", "", etree.QName(element).localname, element)
    with pytest.raises(QueryRefused):
        serving.answer(call, office)
    assert office.asked == []


@pytest.mark.parametrize("child", ['<DeleteMeters xmlns="{v3}"/>', "<PingURL/>", '<PingURL xmlns="urn:other"/>'])
def test_an_operation_that_is_not_there_is_told_where_to_look(child):
    body = child.format(v3=Version.V3)
    raw = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{body}</s:Body></s:Envelope>'
    with pytest.raises(UnknownOperation, match="GetMethods"):
        serving.read_call(raw.encode())
