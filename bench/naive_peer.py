"""The peer that Gridpost is measured against: what a good engineer builds from stock packages in a week.

Spyne 2.14 on Twisted with the messages as Spyne models, signxml for the signature and for the signed receipt, libxml2
for the XSD, SQLite. It checks what Gridpost checks, in the same order, and keeps the same promise: the receipt leaves
after the raw message, its readings and the receipt itself are committed with synchronous=FULL.

Where a choice was open, the peer got the better one: certificates are loaded once, libxml2 and not xmlschema validates,
SQL goes straight to sqlite3 with executemany, the Body is canonicalised once by signxml and not again for the content's
digest, and Spyne's own validation, slower than the XSD, is off. It keeps no Merkle log, audit lines or billing files.

Runs in the bench's own environment (requirements.txt); naive.py starts it.
"""

import argparse
import base64
import json
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import spyne_repairs  # noqa: F401 - first
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from peer_models import MESSAGE_SPACE, RESPONSE, CreatedMeterReadings
from peer_receipt import ReceiptMaker
from signxml import SignatureConfiguration, XMLVerifier
from signxml.exceptions import SignXMLException
from spyne import Application, Fault, ServiceBase, rpc
from spyne.protocol.soap import Soap11
from spyne.server.twisted import TwistedWebResource
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.server import Site

from gridpost import ns, schemas

SECURITY = f"./{{{ns.SOAP11}}}Header/{{{ns.WSSE}}}Security/"
TOKEN = f"{{{ns.SOAP11}}}Header/{{{ns.WSSE}}}Security/{{{ns.WSSE}}}BinarySecurityToken"
BODY, TIMESTAMP, CREATED = f"{{{ns.SOAP11}}}Body", f"{{{ns.WSU}}}Timestamp", f"{{{ns.WSU}}}Created"
SIGNED = SignatureConfiguration(location=SECURITY, expect_references=2)
OLDEST_S, AHEAD_S = 15 * 60, 60


class Peer:
    """Who is enrolled, and the checks; the storage is one of peer_storage.py."""

    def __init__(self, enrolled, storage, make_receipt):
        self.senders = {}
        for device in enrolled:
            der = base64.b64decode(device["certificate"])
            self.senders[sha256(der).digest()] = (device["serial"], x509.load_der_x509_certificate(der))
        self.storage, self.make_receipt = storage, make_receipt
        self.schema = schemas.load()

    def authenticate(self, ctx):
        """Signature, then XSD, before Spyne makes objects; and Spyne then reads only what was signed."""
        envelope = ctx.in_document
        token = envelope.findtext(TOKEN) or ""
        known = self.senders.get(sha256(base64.b64decode(token)).digest())
        if known is None:
            raise Fault("Client.SignatureInvalid", "signature-invalid")
        sender, certificate = known
        try:
            results = XMLVerifier().verify(envelope, x509_cert=certificate, id_attribute="Id", expect_config=SIGNED)
        except SignXMLException:
            raise Fault("Client.SignatureInvalid", "signature-invalid") from None
        signed = {result.signed_xml.tag: result for result in results}
        if set(signed) != {BODY, TIMESTAMP} or len(signed[BODY].signed_xml) != 1:
            raise Fault("Client.SignatureInvalid", "signature-invalid")
        payload = signed[BODY].signed_xml[0]
        if not self.schema.validate(payload):
            raise Fault("Client.SchemaInvalid", str(self.schema.error_log.last_error))
        ctx.in_body_doc = payload
        ctx.udc = Arrival(
            sender=sender,
            raw=ctx.in_string[0],
            digest=sha256(signed[BODY].signed_data).digest(),
            created=datetime.fromisoformat(signed[TIMESTAMP].signed_xml.findtext(CREATED)),
            references=[
                (uri.get("URI"), uri.findtext(f"{{{ns.DS}}}DigestValue"))
                for uri in results[0].signature_xml.iter(f"{{{ns.DS}}}Reference")
            ],
        )

    def take(self, message, arrival):
        """Business checks, then storage; return the receipt's bytes, or a Deferred of them."""
        header = message.Header
        if (header.Verb, header.Noun) != ("created", "MeterReadings") or not header.MessageID or not header.Timestamp:
            raise Fault("Client.HeaderIncomplete", "header-incomplete")
        if header.Source != arrival.sender:
            raise Fault("Client.SourceMismatch", "source-mismatch")
        stored = self.storage.find(arrival.sender, header.MessageID)
        if stored is not None:
            digest, receipt = stored
            if digest != arrival.digest:
                raise Fault("Client.MessageIdReused", "message-id-reused")
            return receipt
        now = datetime.now(UTC)
        age = (now - arrival.created).total_seconds()
        if not -AHEAD_S <= age <= OLDEST_S:
            raise Fault("Client.MessageStale", "message-stale")
        return self.storage.record(arrival, message, now, self.make_receipt)


class Arrival:
    """What the signature said, for the handler."""

    def __init__(self, **values):
        self.__dict__.update(values)


def application(peer):
    class Metering(ServiceBase):
        @rpc(
            CreatedMeterReadings, _returns=RESPONSE, _body_style="bare",
            _in_message_name="CreatedMeterReadings", _out_message_name="MeterReadingsResponseMessage",
        )  # fmt: skip
        def created_meter_readings(ctx, message):
            taken = peer.take(message, ctx.udc)
            answer = lambda receipt: RESPONSE.of(message.Header.MessageID, etree.fromstring(receipt))  # noqa: E731
            return taken.addCallback(answer) if isinstance(taken, Deferred) else answer(taken)

    inwards = Soap11(validator=None, huge_tree=True)
    inwards.event_manager.add_listener("before_deserialize", peer.authenticate)
    return Application([Metering], tns=MESSAGE_SPACE, in_protocol=inwards, out_protocol=Soap11())


def main():
    arguments = argparse.ArgumentParser(description="the naive peer of bench/naive.py, which starts it")
    arguments.add_argument("--storage", choices=("rows", "gridpost", "blocks"), required=True)
    arguments.add_argument("--folder", type=Path, required=True, help="holds enrolled.json, bus.key, bus.pem")
    chosen = arguments.parse_args()
    folder = chosen.folder
    enrolled = json.loads((folder / "enrolled.json").read_text())
    import peer_blocks
    import peer_storage

    storages = {**peer_storage.STORAGES, "blocks": peer_blocks.BlockStore}
    storage = storages[chosen.storage](folder, enrolled, reactor)
    key = load_pem_private_key((folder / "bus.key").read_bytes(), password=None)
    make_receipt = ReceiptMaker(key, (folder / "bus.pem").read_text())
    resource = TwistedWebResource(application(Peer(enrolled, storage, make_receipt)), max_content_length=8 << 20)
    port = reactor.listenTCP(0, Site(resource), 1024, "127.0.0.1")
    sys.stdout.write(json.dumps({"addresses": [f"http://127.0.0.1:{port.getHost().port}"]}) + "\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
