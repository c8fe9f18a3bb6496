"""The device listener through real sockets, plain and TLS: what it serves, and how it behaves when something breaks.

Expected statuses and framing are those of RFC 9110 and 9112.
"""

import hashlib
import http.client
import socket
import ssl
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.server.transports.device_http import DeviceHttpFactory
from gridpost.server.transports.http_values import HttpLimits, Response
from twisted.internet.ssl import PrivateCertificate
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

# --- what is served ---


def test_a_foreign_client_posts_and_gets_on_one_connection(bus) -> None:
    client = http.client.HTTPConnection("127.0.0.1", bus.port, timeout=20)
    body = bytes(range(256)) * 300
    client.request("POST", "/metering", body, {"Content-Type": 'text/xml;charset="UTF-8"', "SOAPAction": '"x"'})
    own = client.sock.getsockname()
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, hashlib.sha256(body).hexdigest().encode())
    client.request("GET", "/metering?wsdl", headers={"X-Forwarded-For": "192.0.2.1", "Accept": "*/*"})
    answer = client.getresponse()
    assert (answer.status, answer.read(), answer.getheader("Gridpost-Waiting")) == (200, b"wsdl", "2")
    assert answer.getheader("Server") is None
    assert answer.getheader("Date").endswith(" GMT")
    assert client.sock.getsockname() == own  # kept alive
    client.close()
    first, second = bus.seen
    assert (first.method, first.path, first.query, first.body) == ("POST", "/metering", "", body)
    assert first.headers["soapaction"] == '"x"'
    assert first.peer == second.peer == f"127.0.0.1:{own[1]}"


@pytest.mark.parametrize(("extra", "version"), [("Connection: close\r\n", "HTTP/1.1"), ("", "HTTP/1.0")])
def test_what_stands_behind_the_last_request_is_never_served(bus, extra: str, version: str) -> None:
    (answer,) = bus.talk(bus.get("/metering?1", extra, version) + bus.get("/metering?2"))
    assert (answer.status, answer.body, answer.headers["Connection"]) == (200, b"1", "close")
    assert len(bus.seen) == 1


def test_one_blank_line_before_a_request_is_let_pass(bus) -> None:
    assert [a.status for a in bus.talk(b"\r\n" + bus.post() + b"\r\n" + bus.get(), 2)] == [200, 200]


def test_unknown_headers_sent_twice_are_joined(bus) -> None:
    bus.talk(bus.get("/metering?q", "X-Note: a\r\nx-note: \tb \r\n"))
    assert bus.seen[0].headers["x-note"] == "a, b"


def test_pipelined_requests_are_answered_in_order_while_handlers_take_their_time(bus) -> None:
    with bus.connect() as client, client.makefile("rb") as stream:
        client.sendall(
            bus.post(b"1", "/later") + bus.get("/metering?2") + bus.post(b"3", "/later") + bus.get("/metering?4")
        )
        for own in (b"one", b"three"):
            bus.until(lambda: len(bus.waiting) == 1)
            assert bus.seen[-1].path == "/later"  # what stands behind it waits
            bus.call(bus.waiting.pop().callback, Response(200, own))
            assert bus.read_answer(stream).body == own
            assert bus.read_answer(stream).body == (b"2" if own == b"one" else b"4")


def test_five_thousand_pipelined_requests_cost_no_stack(bus) -> None:
    answers = bus.talk(b"".join(bus.get(f"/metering?{n}") for n in range(5000)), 5000)
    assert [a.body for a in answers] == [str(n).encode() for n in range(5000)]


def test_a_peer_that_does_not_read_gets_no_further_answers_made(bus) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(20)
        client.connect(("127.0.0.1", bus.port))
        client.sendall(bus.get("/big") * 400)
        bus.until(lambda: any(c._blocked for c in bus.factory.connections._open))
        made = len(bus.seen)
        assert bus.call(lambda: len(bus.seen)) == made < 100  # 400 answers are 80 MB; kernels hold a few
        with client.makefile("rb") as stream:
            assert all(bus.read_answer(stream).body == bytes(200_000) for _ in range(400))


def test_continue_is_sent_when_the_body_is_awaited_and_only_then(bus) -> None:
    with bus.connect() as client, client.makefile("rb") as stream:
        whole = bus.post(b"<late/>", extra="Expect: 100-Continue\r\n")
        client.sendall(whole[:-7])
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        client.sendall(whole[-7:])
        assert bus.read_answer(stream).body == hashlib.sha256(b"<late/>").hexdigest().encode()
        client.sendall(whole)  # the body comes along: nobody waits
        assert bus.read_answer(stream).status == 200


def test_an_expected_body_that_is_too_large_is_refused_instead(bus) -> None:
    (answer,) = bus.talk(bus.post(b"", length="300000000", extra="Expect: 100-continue\r\n"))
    assert answer.status == 413


def test_a_route_has_its_own_media_type_and_limit(bus) -> None:
    est = bus.post(b"x" * 64, "/est").replace(b"text/xml; charset=utf-8", b"application/pkcs10")
    assert bus.talk(est)[0].status == 200
    assert bus.talk(bus.post(b"x", "/est"))[0].status == 415
    assert bus.talk(est.replace(b"Length: 64", b"Length: 65") + b"x")[0].status == 413


def test_the_largest_head_and_64_headers_are_taken(bus) -> None:
    assert bus.talk(bus.get(extra="X: " + "a" * (8192 - len(bus.get()) - 5) + "\r\n"))[0].status == 200
    assert bus.talk(bus.get(extra="".join(f"X{n}: a\r\n" for n in range(63))))[0].status == 200
    assert bus.talk(bus.post(bytes(100_000)))[0].status == 200


def test_a_known_path_says_which_methods_it_takes(bus) -> None:
    assert bus.talk(bus.get("/later"))[0].headers["Allow"] == "POST"
    assert bus.talk(bus.post(path="/big"))[0].headers["Allow"] == "GET"


def test_octets_beyond_the_declared_body_are_a_request_of_their_own_and_a_bad_one(bus) -> None:
    good, bad = bus.talk(bus.post(b"<a/>") + bytes(500), 2)
    assert (good.status, bad.status) == (200, 400)
    assert bus.seen[0].body == b"<a/>"


def test_a_refused_peer_that_keeps_sending_still_reads_why(bus) -> None:
    with bus.connect() as client, client.makefile("rb") as stream:
        client.sendall(bus.post(b"", length="3000000"))
        client.sendall(bytes(3_000_000))
        assert bus.read_answer(stream).status == 413


# --- defects, disconnects, the end ---


def test_a_defect_in_a_handler_is_a_fault_a_log_line_and_a_closed_connection(bus) -> None:
    events: list = []
    globalLogPublisher.addObserver(events.append)
    try:
        (fault,) = bus.talk(bus.post(path="/broken"))
        (plain,) = bus.talk(bus.get("/broken"))
        (split,) = bus.talk(bus.get("/split"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert (fault.status, fault.headers["Content-Type"]) == (500, "text/xml; charset=utf-8")
    soap = "{http://schemas.xmlsoap.org/soap/envelope/}"  # SOAP 1.1 section 4.4
    parts = ElementTree.fromstring(fault.body).find(f"{soap}Body/{soap}Fault")
    assert [part.text for part in parts] == ["soap:Server", "internal-error"]
    assert (plain.status, plain.body, plain.headers["Connection"]) == (500, b"internal-error\n", "close")
    assert (split.status, split.headers.get("Set-Cookie")) == (500, None)
    failed = [event["log_failure"].type for event in events if "log_failure" in event]
    assert failed == [RuntimeError, RuntimeError, ValueError]


def test_a_peer_that_leaves_before_its_answer_disturbs_nobody(bus) -> None:
    events: list = []
    globalLogPublisher.addObserver(events.append)
    try:
        with bus.connect() as client:
            client.sendall(bus.post(path="/later"))
            bus.until(lambda: bus.waiting)
        bus.until(lambda: not bus.factory.connections._open)
        bus.call(bus.waiting[0].callback, Response(200, bytes(200_000)))
        assert bus.talk(bus.get())[0].status == 200
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event for event in events if "log_failure" in event] == []


def test_a_peer_has_no_more_connections_than_its_cap(bus) -> None:
    clients = [bus.connect() for _ in range(8)]
    bus.until(lambda: len(bus.factory.connections._open) == 8)
    assert cut(bus, bus.port)
    assert bus.refusals[0][0] == "too-many-connections"
    for client in clients:
        with client, client.makefile("rb") as stream:
            client.sendall(bus.get())
            assert bus.read_answer(stream).status == 200
    bus.until(lambda: not bus.factory.connections._open)
    assert bus.talk(bus.get())[0].status == 200


def test_the_silent_are_those_of_whom_there_is_no_request(bus) -> None:
    connections = bus.factory.connections
    with bus.connect(), bus.connect() as half, bus.connect() as client:
        half.sendall(bus.post(path="/later")[:-1])
        client.sendall(bus.post(path="/later"))
        bus.until(lambda: bus.waiting and len(connections) == 3)
        assert connections.silent == 2
        client.close()
        bus.until(lambda: len(connections) == 2)
        assert connections.silent == 1  # the handler of the one who left still works
    bus.until(lambda: not len(connections))
    assert connections.silent == 0
    bus.call(bus.waiting[0].callback, Response(200, b"receipt"))


def cut(bus, port: int) -> bool:
    """Tell whether a new connection is closed without an answer."""
    try:
        with bus.connect(port) as client:
            client.sendall(bus.get())
            return client.recv(1) == b""
    except ConnectionError:
        return True


def test_stop_closes_the_idle_and_waits_for_the_answer_being_made(bus) -> None:
    factory = bus.call(bus.make_factory, HttpLimits())
    port = bus.listen(factory)
    stopped: list = []
    with bus.connect(port) as idle, bus.connect(port) as busy, busy.makefile("rb") as stream:
        busy.sendall(bus.post(path="/later") + bus.get("/metering?behind"))
        bus.until(lambda: bus.waiting and len(factory.connections._open) == 2)
        bus.call(lambda: factory.stop().addCallback(stopped.append) and None)
        assert idle.recv(1) == b""
        assert stopped == []
        bus.call(bus.waiting[0].callback, Response(200, b"receipt"))
        answer = bus.read_answer(stream)
        assert (answer.body, answer.headers["Connection"]) == (b"receipt", "close")
        busy.shutdown(socket.SHUT_WR)
        bus.until(lambda: stopped == [None])
        assert stream.read() == b""
    assert cut(bus, port)
    assert [request.path for request in bus.seen] == ["/later"]


# --- TLS ---


def tls_factory(bus, factory: DeviceHttpFactory) -> tuple[TLSMemoryBIOFactory, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bus")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("bus")]), False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own = PrivateCertificate.loadPEM(pem + key.private_bytes(*formats))
    return TLSMemoryBIOFactory(own.options(), False, factory, bus.reactor), pem.decode()


def test_over_tls_everything_is_the_same(bus) -> None:
    factory = bus.call(bus.make_factory, HttpLimits(connections=1))
    wrapped, pem = tls_factory(bus, factory)
    port = bus.listen(wrapped)
    context = ssl.create_default_context(cadata=pem)
    with context.wrap_socket(bus.connect(port), server_hostname="bus") as client, client.makefile("rb") as stream:
        client.sendall(bus.post(b"x" * 70_000) + bus.get("/metering?two"))
        assert bus.read_answer(stream).body == hashlib.sha256(b"x" * 70_000).hexdigest().encode()
        assert bus.read_answer(stream).body == b"two"
        (connection,) = factory.connections._open
        assert connection.transport.getTcpNoDelay(), "it would wait 40 ms for the peer"
        client.sendall(bus.get("/big") * 20)
        assert all(bus.read_answer(stream).body == bytes(200_000) for _ in range(20))
        with pytest.raises((ConnectionError, ssl.SSLError)):  # one too many: cut within the handshake
            context.wrap_socket(bus.connect(port), server_hostname="bus")
        client.sendall(bus.get(extra="Connection: close\r\n"))
        assert bus.read_answer(stream).status == 200
        assert stream.read() == b""  # with TLS's own farewell: a cut would raise SSLEOFError
    bus.until(lambda: not factory.connections._open)
    with context.wrap_socket(bus.connect(port), server_hostname="bus") as client, client.makefile("rb") as stream:
        client.sendall(b"GET /health HTTP/1.1\nHost: a\n\n" + bus.get("/metering?smuggled"))
        assert bus.read_answer(stream).status == 400
    assert [request.query for request in bus.seen if request.path == "/metering"] == ["", "two"]
