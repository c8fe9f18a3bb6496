"""A small customer information system that takes MultiSpeak notifications: to try Gridpost against, and to read.

Needs nothing but Python. It serves its own WSDL at ``?wsdl``, answers each notification as MultiSpeak has it, prints a
line for it, and keeps it once, however often it is sent: MessageID in the header tells a repeat.

    python examples/cis/cis.py --port 8090 --version 3
    python examples/cis/cis.py --port 8091 --version 4 --refuse M7 --user gridpost --password secret
"""

import argparse
import json
import threading
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import quoteattr

WSDL = Path(__file__).parents[2] / "wsdl"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
SPACES = {"3": "http://www.multispeak.org/Version_3.0", "4": "http://www.multispeak.org/Version_4.1_Release"}
MOST = 16 << 20  # octets of a request
TAKEN = ("ReadingChanged", "FormattedBlock", "IntervalData", "MeterEvent", "CDStateChanged")
NOTIFICATIONS = [f"{name}Notification" for name in TAKEN]


class Cis:
    """What has come in, and who may send it."""

    def __init__(self, version: str, refuse: str = "", user: str = "", password: str = "") -> None:
        """`refuse`: a meter this system does not know; without `user` anybody may send."""
        self.version, self.refuse, self.user, self.password = version, refuse, user, password
        self.space = SPACES[version]
        self.kept: dict[str, bytes] = {}  # MessageID -> the notification, as it came
        self.calls: list[str] = []  # operation of each request, repeats too
        self.lock = threading.Lock()

    def answer(self, raw: bytes) -> tuple[int, str]:
        """Return HTTP status and answer of a request."""
        try:
            header, content = self.read(raw)
        except ValueError as error:
            return 500, fault("Client", str(error))
        if self.user and (header.get("UserID"), header.get("Pwd")) != (self.user, self.password):
            return 500, fault("Client", "UserID or Pwd is not known here")
        name = content.tag.removeprefix(f"{{{self.space}}}")
        with self.lock:
            self.calls.append(name)
            return 200, self.carry_out(name, content, header.get("MessageID", ""))

    def read(self, raw: bytes) -> tuple[dict[str, str], ET.Element]:
        """Return the fields of the message header and the Body's child."""
        if b"<!DOCTYPE" in raw:
            raise ValueError("a document type has no place in SOAP")
        try:
            envelope = ET.fromstring(raw)
        except ET.ParseError as error:
            raise ValueError(f"no XML: {error}") from None
        body = envelope.find(f"{{{SOAP}}}Body")
        if body is None or len(body) != 1:
            raise ValueError("no SOAP 1.1 message")
        header = envelope.find(f"{{{SOAP}}}Header/{{{self.space}}}MultiSpeakMsgHeader")
        return {} if header is None else dict(header.attrib), body[0]

    def carry_out(self, name: str, content: ET.Element, message_id: str) -> str:
        """Keep a notification, or answer a question about this system; return the answer's envelope."""
        if name == "PingURL":
            return self.reply(name, "")
        if name == "GetMethods":
            return self.reply(name, "".join(f"<string>{one}</string>" for one in [*NOTIFICATIONS, "PingURL"]))
        if name not in NOTIFICATIONS:
            return self.reply(name, "")
        meters = sorted(set(meters_of(content)))
        if self.refuse in meters:
            said = quoteattr(f"meter {self.refuse} is not known here")
            error = f"<errorObject objectID={quoteattr(self.refuse)} errorString={said} />"
            print(f"{name} refused: {self.refuse}", flush=True)
            return self.reply(name, error)
        again = message_id in self.kept
        if not again:
            self.kept[message_id or f"without-id-{len(self.kept)}"] = ET.tostring(content)
        print(f"{name} {'again' if again else 'taken'}: {', '.join(meters)}", flush=True)
        return self.reply(name, "")

    def reply(self, name: str, result: str) -> str:
        """Return an answer; version 3.0 answers a change of state with nothing inside."""
        empty = self.version == "3" and name == "CDStateChangedNotification"
        inside = "" if empty else f"<{name}Result>{result}</{name}Result>"
        return envelope(f'<{name}Response xmlns="{self.space}">{inside}</{name}Response>')


def meters_of(content: ET.Element) -> list[str]:
    """Return the numbers of the meters a notification is about, wherever they stand in it."""
    found = [one.text or "" for one in content.iter() if one.tag.endswith(("}meterNo", "}meterID"))]
    rows = [one.text or "" for one in content.iter() if one.tag.endswith("}val")]
    separators = [one.text or "," for one in content.iter() if one.tag.endswith("}separator")]
    return [meter for meter in found + [row.split(separators[0])[0] for row in rows] if meter]


def envelope(content: str) -> str:
    """Return a SOAP 1.1 envelope."""
    return f'<soap:Envelope xmlns:soap="{SOAP}"><soap:Body>{content}</soap:Body></soap:Envelope>'


def fault(code: str, reason: str) -> str:
    """Return a SOAP 1.1 fault."""
    escaped = reason.replace("&", "&amp;").replace("<", "&lt;")
    return envelope(f"<soap:Fault><faultcode>soap:{code}</faultcode><faultstring>{escaped}</faultstring></soap:Fault>")


def serve(cis: Cis, port: int = 0) -> ThreadingHTTPServer:
    """Return a server on 127.0.0.1 that is not yet serving."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "localhost")
            wsdl = (WSDL / f"multispeak_v{cis.version}_cb.wsdl").read_text(encoding="utf-8")
            self.say(200, wsdl.replace("http://localhost/multispeak", f"http://{host}/multispeak"))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= MOST:
                self.say(413, "")
                return
            self.say(*cis.answer(self.rfile.read(length)))

        def say(self, status: int, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: a line a notification is enough."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A small customer information system that takes MultiSpeak.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--version", choices=sorted(SPACES), default="3", help="3 is 3.0ac, 4 is 4.1.6")
    parser.add_argument("--refuse", default="", help="a meter this system does not know")
    parser.add_argument("--user", default="", help="who may send")
    parser.add_argument("--password", default="", help="with which password")
    options = parser.parse_args()
    server = serve(Cis(options.version, options.refuse, options.user, options.password), options.port)
    address = f"http://127.0.0.1:{server.server_address[1]}/multispeak"
    print(json.dumps({"listening": address, "wsdl": f"{address}?wsdl"}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
