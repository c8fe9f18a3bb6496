"""``gridpost validate`` on real files, through its click command as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from gridpost.server.commands.validate import command
from xmlschema import XMLSchema

from gridpost import messages, ns, testing
from gridpost.model import Readings

CHANNEL = testing.channel()
END = testing.NOW_UTC_MS // 1000
FIRST = "/mrm:CreatedMeterReadings[1]/mrm:Payload[1]/m:MeterReadings[1]/m:MeterReading[1]/m:IntervalBlocks[1]"

DOCUMENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<MeterReadings xmlns="{ns.METER_READINGS}">
  <MeterReading>
    <IntervalBlocks>
      <IntervalReadings>
        <timeStamp>2026-03-01T00:15:00Z</timeStamp>
        <value>0.125</value>
      </IntervalReadings>
      <ReadingType ref="{testing.FORWARD_KWH_15MIN}"/>
    </IntervalBlocks>
    <Meter><mRID>M1</mRID></Meter>
    <UsagePoint><mRID>UP1</mRID></UsagePoint>
  </MeterReading>
</MeterReadings>
"""


@pytest.fixture(autouse=True)
def _without_zopes_marks(monkeypatch):
    """`validate` runs without Twisted, but other tests load it; zope then marks the ABCs that xmlschema looks at."""
    for kind in XMLSchema.__mro__:
        if "__provides__" in vars(kind):
            monkeypatch.delattr(kind, "__provides__")


@pytest.fixture(scope="module")
def ca() -> testing.ThrowawayCA:
    return testing.ThrowawayCA()


@pytest.fixture(scope="module")
def sealed(ca) -> bytes:
    message = testing.readings_message("IED-7", "id-1", [testing.block(CHANNEL, END, ["1.0", "2.50"])])
    return testing.sealed(message, ca.issue_device("IED-7"))


@pytest.fixture
def run(tmp_path):
    def run(files: dict[str, bytes | str], *options: str):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return CliRunner().invoke(command, [*(str(tmp_path / name) for name in files), *options])

    return run


def findings(run, name: str, content: bytes | str, *options: str) -> list[dict[str, object]]:
    """Return what --json lists for one invalid file, its exit status having been 1."""
    result = run({name: content}, "--json", *options)
    assert result.exit_code == 1, result.output
    (file,) = json.loads(result.stdout)["files"]
    assert not file["valid"]
    assert all(finding["file"].endswith(name) for finding in file["findings"])
    return file["findings"]


# --- valid -----------------------------------------------------------------------------------------------------------


def test_what_is_valid_is_said_to_be_and_what_it_is(run, sealed):
    csv = "channel,interval_end_utc,value,quality,usage_point,meter,reading_type,interval_s\n"
    csv += f"E1,2026-03-01T00:15:00Z,1.5,,UP1,M1,{testing.FORWARD_KWH_15MIN},900\n"
    bare = messages.encode(testing.readings_message("IED-7", "id-1", [testing.block(CHANNEL, END, ["1"])]))
    event = testing.events_message("IED-7", "id-2", [])
    result = run(
        {
            "message.xml": sealed,
            "document.xml": DOCUMENT,
            "bare.xml": bare,
            "events.xml": messages.encode(event),
            "encoded.xml": messages.encode_meter_readings(Readings((testing.block(CHANNEL, END, ["1"]),))),
            "day.csv": csv,
        }
    )
    assert result.exit_code == 0, result.output
    kinds = [line.split(": valid ")[1] for line in result.output.splitlines()[:-1]]
    assert kinds == [
        "(mrm:CreatedMeterReadings, signature not checked)",
        "(m:MeterReadings)",
        "(mrm:CreatedMeterReadings)",
        "(edem:CreatedEndDeviceEvents)",
        "(m:MeterReadings)",
        "(CSV of readings)",
    ]
    assert result.output.splitlines()[-1] == "checked 6, invalid 0"


def test_json_says_ok(run):
    result = run({"document.xml": DOCUMENT}, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["files"][0]["findings"] == []


def test_an_unsigned_envelope_may_be_checked_while_a_client_is_being_written(run, sealed):
    start, end = sealed.index(b"<soap:Header>"), sealed.index(b"</soap:Header>")
    unsigned = sealed[:start] + sealed[end + len(b"</soap:Header>") :]
    assert "not signed" in run({"message.xml": unsigned}).output


# --- invalid ---------------------------------------------------------------------------------------------------------


def test_file_line_path_reason_and_hint(run):
    (found,) = findings(run, "document.xml", DOCUMENT.replace("0.125", "1e-7"))
    assert found["line"] == 7
    assert found["code"] == "schema-invalid"
    assert found["path"] == (
        "/m:MeterReadings[1]/m:MeterReading[1]/m:IntervalBlocks[1]/m:IntervalReadings[1]/m:value[1]"
    )
    assert "1e-7" in found["reason"]
    assert "no exponent" in found["hint"]


def test_the_line_of_output_can_be_clicked(run, tmp_path):
    result = run({"document.xml": DOCUMENT.replace("0.125", "1e-7")})
    first, second, last = result.output.splitlines()
    assert first.startswith(f"{tmp_path / 'document.xml'}:7: /m:MeterReadings[1]/")
    assert second.startswith("    hint: ")
    assert last == "checked 1, invalid 1"


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "hint"),
    [
        ("15:00Z", "15:00", "bad-value", 6, "time with its zone"),
        ("2026-03-01T", "2026-02-30T", "schema-invalid", 6, "time with its zone"),
        ("        <value>0.125</value>\n", "", "bad-value", 5, "IntervalReadings: One value an interval"),
        ("<ReadingType ref=", "<ReadingType reff=", "schema-invalid", 9, "code in ref"),
        ("<Meter><mRID>", "<Meter><mrid>", "malformed-xml", 11, ""),
        ("<mRID>M1</mRID>", "<mrid>M1</mrid>", "schema-invalid", 11, "order of elements is fixed"),
        ("<mRID>M1", f"<mRID>{'x' * 129}", "schema-invalid", 11, "shorten"),
        ("<MeterReading>", "<MeterReading>text", "schema-invalid", 3, "no text"),
    ],
)
def test_a_finding_for_each_kind_of_mistake(run, old, new, code, line, hint):
    first = findings(run, "document.xml", DOCUMENT.replace(old, new, 1))[0]
    assert (first["code"], first["line"]) == (code, line)
    assert hint in first["hint"]


def test_all_findings_are_listed_up_to_a_hundred(run):
    row = "<IntervalReadings><timeStamp>2026-03-01T00:15:00Z</timeStamp><value>x</value></IntervalReadings>\n"
    found = findings(run, "document.xml", DOCUMENT.replace("<IntervalReadings>", row * 300 + "<IntervalReadings>", 1))
    assert len(found) == 100
    assert [entry["line"] for entry in found[:3]] == [5, 6, 7]


OFFICE = f"""<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Header>
 <wsse:Security xmlns:wsse="{ns.WSSE}"><wsse:UsernameToken><wsse:Username>acme</wsse:Username>
  <wsse:Password>secret</wsse:Password></wsse:UsernameToken></wsse:Security></soap:Header><soap:Body>
<PeekMailbox xmlns="{ns.MAILBOX}" xmlns:h="{ns.MESSAGE}"><Header><h:Verb>get</h:Verb><h:Noun>Mailbox</h:Noun>
  <h:Timestamp>2026-03-01T00:00:00Z</h:Timestamp><h:Source>acme</h:Source><h:MessageID>m-1</h:MessageID></Header>
 <Request><h:Option><h:name>limit</h:name><h:value>20</h:value></h:Option></Request></PeekMailbox>
</soap:Body></soap:Envelope>"""


def test_an_office_may_try_its_message_with_a_user_name(run):
    assert "(mb:PeekMailbox, not signed)" in run({"peek.xml": OFFICE}).output
    (found,) = findings(run, "peek.xml", OFFICE.replace(">limit<", ">limits<"))
    assert (found["code"], found["line"]) == ("bad-value", 6)
    assert found["path"] == "/mb:PeekMailbox[1]/mb:Request[1]/msg:Option[1]"
    (found,) = findings(run, "peek.xml", OFFICE.replace("<h:name>limit", "<h:nam/><h:name>limit"))
    assert found["code"] == "schema-invalid"
    assert "'h:nam'" in found["reason"]  # xmlschema's words: it knows this schema too
    (found,) = findings(run, "peek.xml", OFFICE.replace("Password>", "Word>"))
    assert found["code"] == "envelope-shape"


def test_a_message_is_read_as_the_bus_reads_it(run, sealed):
    (found,) = findings(run, "message.xml", sealed.replace(b">id-1<", b"><"))
    assert found["code"] == "header-incomplete"
    (found,) = findings(run, "message.xml", sealed.replace(b"2.50", b"2,50"))
    assert found["path"] == FIRST + "/m:IntervalReadings[2]/m:value[1]"
    (found,) = findings(
        run, "message.xml", sealed.replace(b"ds:Signature>", b"ds:Sign>").replace(b"<ds:Signature ", b"<ds:Sign ")
    )
    assert found["code"] == "envelope-shape"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>', "forbidden-markup"),
        (DOCUMENT.replace("<MeterReading>", "<!-- c --><MeterReading>"), "forbidden-markup"),
        (DOCUMENT.encode("utf-16"), "file-invalid"),
        ("<a/>", "schema-invalid"),
        ("", "file-invalid"),
        ("just text", "file-invalid"),
        (f'<s:Envelope xmlns:s="{ns.SOAP11}"><s:Body/></s:Envelope>', "envelope-shape"),
    ],
)
def test_what_is_no_document_of_ours_at_all(run, content, code):
    assert findings(run, "some.xml", content)[0]["code"] == code


def test_a_csv_of_readings_names_the_line(run):
    csv = "channel,interval_end_utc,value,quality,usage_point,meter,reading_type,interval_s\n"
    row = f"E1,2026-03-01T00:15:00Z,%s,,UP1,M1,{testing.FORWARD_KWH_15MIN},900\n"
    (found,) = findings(run, "day.csv", csv + row % "1.5x")
    assert (found["line"], found["code"]) == (2, "file-invalid")


def test_an_answer_and_a_fault_are_valid_too(run, ca):
    receipt = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    fault = (
        f'<s:Envelope xmlns:s="{ns.SOAP11}"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>x'
        f'</faultstring><detail><w:MeterReadingsFaultMessage xmlns:w="{ns.METER_READINGS_MESSAGE}" '
        f'xmlns:h="{ns.MESSAGE}" xmlns:f="{ns.REFUSAL}"><w:Reply><h:Result>FAILED</h:Result></w:Reply><f:Refusal>'
        f"<f:code>message-stale</f:code><f:retry>later</f:retry><f:contentDigest>{receipt}</f:contentDigest>"
        f"<f:signatureDigest>{receipt}</f:signatureDigest><f:time>2026-03-01T00:00:00Z</f:time></f:Refusal>"
        "</w:MeterReadingsFaultMessage></detail></s:Fault></s:Body></s:Envelope>"
    )
    assert run({"fault.xml": fault}).exit_code == 0
    (found,) = findings(run, "fault.xml", fault.replace(">later<", ">perhaps<"))
    assert found["path"] == "/mrm:MeterReadingsFaultMessage[1]/f:Refusal[1]/f:retry[1]"


# --- signatures ------------------------------------------------------------------------------------------------------


def test_signatures_are_checked_when_asked(run, ca, sealed, tmp_path):
    trust = tmp_path / "ca.pem"
    trust.write_bytes(ca.pem)
    options = ("--signature", "--trust", str(trust))
    result = run({"message.xml": sealed}, *options)
    assert (result.exit_code, "signature verified" in result.output) == (0, True)
    (found,) = findings(run, "message.xml", sealed.replace(b"2.50", b"2.51"), *options)
    assert found["code"] == "signature-invalid"
    assert "Digest" in found["reason"]
    assert findings(run, "document.xml", DOCUMENT, *options)[0]["code"] == "version-mismatch"
    trust.write_bytes(testing.ThrowawayCA("Other").pem)
    assert "not issued" in findings(run, "message.xml", sealed, *options)[0]["reason"]


# --- usage -----------------------------------------------------------------------------------------------------------


def test_wrong_usage_ends_with_2(run, ca, tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    assert CliRunner().invoke(command, []).exit_code == 2
    assert CliRunner().invoke(command, [str(tmp_path / "missing.xml")]).exit_code == 2
    assert run({"document.xml": DOCUMENT}, "--signature").exit_code == 2
    assert run({"document.xml": DOCUMENT}, "--trust", str(tmp_path / "no.pem")).exit_code == 2
    result = run({"document.xml": DOCUMENT}, "--signature", "--trust", str(tmp_path / "no.pem"))
    assert (result.exit_code, "no CA certificate" in result.output) == (2, True)


def test_starts_without_twisted_spyne_or_the_database():
    code = (
        "import sys, gridpost.server.commands.validate as v; v._xmlschema();"
        "print([name for name in ('twisted', 'spyne', 'sqlalchemy', 'httptools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_nothing_is_fetched_for_a_document_that_names_schemas_elsewhere(run):
    # A look-up of the name or a connection would raise in the child, or end in a finding.
    code = (
        "import sys\n"
        "from gridpost.server.commands.validate import examine\n"
        "def hook(event, args):\n"
        "    if event.startswith('socket.') or event == 'open' and '/etc/hostname' in str(args):\n"
        "        raise SystemExit(event)\n"
        "sys.addaudithook(hook)\n"
        "verdict = examine('x.xml', sys.stdin.buffer.read())\n"
        "print([finding.code for finding in verdict.findings])\n"
    )
    located = DOCUMENT.replace("0.125", "x").replace(
        "<MeterReadings ",
        '<MeterReadings xmlns:i="http://www.w3.org/2001/XMLSchema-instance" '
        f'i:schemaLocation="{ns.METER_READINGS} http://127.0.0.1:9/x.xsd urn:y file:///etc/hostname" ',
    )
    done = subprocess.run([sys.executable, "-c", code], input=located.encode(), capture_output=True, timeout=60)
    assert done.stdout == b"['schema-invalid']\n", done.stderr
