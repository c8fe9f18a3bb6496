"""The contract as the running bus serves it: every document at its relative address, and zeep reads the whole."""

from __future__ import annotations

import urllib.parse

import pytest
import zeep
from live_bus import Wire
from lxml import etree

from gridpost import schemas

XSD = "{http://www.w3.org/2001/XMLSchema}"
SOAP = "{http://schemas.xmlsoap.org/wsdl/soap/}"


def fetch_all(wire: Wire, path: str) -> dict[str, bytes]:
    """Follow every schemaLocation from the WSDL on; path -> document."""
    found: dict[str, bytes] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        status, body, headers = wire.get(path)
        assert status == 200, path
        assert headers["Content-Type"].startswith("text/xml"), path
        found[path] = body
        for element in etree.fromstring(body).iter(f"{XSD}import", f"{XSD}include"):
            waiting.append(urllib.parse.urljoin(path, element.get("schemaLocation")))
    return found


def test_every_schema_is_at_its_relative_address(shared_bus):
    found = fetch_all(shared_bus.wire, "/metering?wsdl")
    served = {path.lstrip("/"): body for path, body in found.items() if path.endswith(".xsd")}
    assert served == {name: text for name, text in schemas.documents().items() if name in served}
    assert len(served) >= 6, "envelope, message, MeterReadings, EndDeviceEvents, receipt, refusal"


def test_zeep_loads_the_live_contract_and_finds_where_to_post(shared_bus):
    with zeep.Client(shared_bus.addresses[0] + "/metering?wsdl") as client:
        (service,) = client.wsdl.services.values()
        (port,) = service.ports.values()
        assert port.binding_options["address"] == shared_bus.addresses[0] + "/metering"
        assert sorted(port.binding.all()) == [
            "PublishCreatedEncryptedReadings", "PublishCreatedEndDeviceEvents", "PublishCreatedMeterReadings",
            "RequestEndDeviceControls",
        ]  # fmt: skip


@pytest.mark.parametrize("query", ["wsdl", "WSDL", "Wsdl"])
def test_the_query_may_be_written_in_any_case(shared_bus, query):
    assert shared_bus.wire.get(f"/metering?{query}")[0] == 200


def address(wire: Wire, host: str | None) -> str:
    headers = {} if host is None else {"Host": host}
    status, body, _ = wire.request("GET", "/metering?wsdl", None, headers)
    assert status == 200
    return etree.fromstring(body).find(f".//{SOAP}address").get("location")


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("meters.example:8443", "http://meters.example:8443/metering"),
        ("[2001:db8::7]", "http://[2001:db8::7]/metering"),
        ("192.0.2.1", "http://192.0.2.1/metering"),
    ],
)
def test_the_address_is_the_one_the_caller_used(shared_bus, host, location):
    assert address(shared_bus.wire, host) == location


def test_forwarded_headers_are_never_believed(shared_bus):
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    body = shared_bus.wire.request("GET", "/metering?wsdl", None, headers)[1]
    assert b"evil" not in body


@pytest.mark.parametrize("host", ['x"><evil/>', "a b", "x/../y", "evil.example/path", "user@evil.example"])
def test_a_host_that_is_none_gets_no_contract_with_it_inside(shared_bus, host):
    status, body, _ = shared_bus.wire.request("GET", "/metering?wsdl", None, {"Host": host})
    assert status == 400 or (status == 200 and host.encode() not in body)


def test_a_configured_public_address_stands_whatever_the_host(make_bus):
    bus = make_bus(listen={"public_url": "https://meters.example/metering?a=1&b=2"}).start()
    assert address(bus.wire, "other.example") == "https://meters.example/metering?a=1&b=2"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metering", 404),
        ("GET", "/metering?wsdl=1", 404),
        ("GET", "/", 404),
        ("GET", "/metering.wsdl/../gridpost.toml", 404),
        ("GET", "/../gridpost.toml", 404),
        ("GET", "/%2e%2e/gridpost.toml", 404),
        ("GET", "/ca.key", 404),
        ("GET", "//health", 404),
        ("DELETE", "/metering", 501),
        ("PUT", "/health", 501),
        ("POST", "/health", 405),
        ("POST", "/message.xsd", 405),
    ],
)
def test_nothing_else_is_served(shared_bus, method, path, status):
    answer, body, headers = shared_bus.wire.request(method, path, b"" if method in ("POST", "PUT") else None)
    assert answer == status
    assert b"gridpost.toml" not in body
    assert "Server" not in headers


def test_no_answer_tells_what_runs_here(shared_bus):
    """Neither names nor versions of the server, its libraries or its language, in headers or bodies."""
    wire = shared_bus.wire
    answers = [
        wire.get("/health"),
        wire.get("/metering?wsdl"),
        wire.get("/absent"),
        wire.get("/.well-known/est/cacerts"),
        wire.request("POST", "/metering", b"<a/>", {"Content-Type": "text/xml"}),
        wire.request("POST", "/metering", b"{}", {"Content-Type": "application/json"}),
        wire.request("POST", "/.well-known/est/simpleenroll", b"x", {"Content-Type": "application/pkcs10"}),
    ]
    for status, body, headers in answers:
        text = (str(headers) + body.decode()).lower()
        for word in ("twisted", "python", "lxml", "libxml", "sqlite", "httptools", "openssl", "traceback", "/tmp"):
            assert word not in text, (status, word)
        assert {name.lower() for name in headers} <= {
            "date", "content-type", "content-length", "connection", "content-transfer-encoding", "retry-after",
        }  # fmt: skip
