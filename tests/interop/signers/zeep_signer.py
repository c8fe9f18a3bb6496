"""zeep with SHA-256: sign a CreatedMeterReadings, push it, verify the signed receipt.

zeep's own signature is told its algorithms, and is given what it lacks: mustUnderstand, the check that it is the Body
and the Timestamp that are signed, and that the bus's certificate comes from the CA trusted.
"""

import base64
import os
import sys

import requests
import xmlsec
import zeep
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from zeep.wsse import utils
from zeep.wsse.signature import BinarySignature, _verify_envelope_with_key

ENV = {name.removeprefix("GRIDPOST_"): value for name, value in os.environ.items() if name.startswith("GRIDPOST_")}
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
WSSE = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}"
WSU = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}"
BUS_KEY_USAGE = x509.ObjectIdentifier("2.25.284392625550119026516274436571923214786")
METHODS = {"RSA": xmlsec.Transform.RSA_SHA256, "EC": xmlsec.Transform.ECDSA_SHA256}


class Seal(BinarySignature):
    def apply(self, envelope, headers):
        security = utils.get_security_header(envelope)
        security.set(f"{SOAP}mustUnderstand", "1")
        security.append(utils.WSU.Timestamp(utils.WSU.Created(ENV["NOW"])))
        return super().apply(envelope, headers)

    def verify(self, envelope):
        security = envelope.find(f"{SOAP}Header/{WSSE}Security")
        bus = x509.load_der_x509_certificate(base64.b64decode(security.findtext(f"{WSSE}BinarySecurityToken")))
        with open(ENV["BUS_CA"], "rb") as pem:
            bus.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.read()))
        assert BUS_KEY_USAGE in bus.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        signed = {reference.get("URI") for reference in security.iter(f"{DS}Reference")}
        parts = (envelope.find(f"{SOAP}Body"), security.find(f"{WSU}Timestamp"))
        assert signed == {"#" + part.get(f"{WSU}Id") for part in parts}
        key = xmlsec.Key.from_memory(bus.public_bytes(Encoding.PEM), xmlsec.KeyFormat.CERT_PEM)
        _verify_envelope_with_key(envelope, key)
        return envelope


session = requests.Session()
session.trust_env = False
seal = Seal(ENV["KEY"], ENV["CERT"], signature_method=METHODS[ENV["FAMILY"]], digest_method=xmlsec.Transform.SHA256)
client = zeep.Client(ENV["METERING"] + "?wsdl", wsse=seal, transport=zeep.Transport(session=session))
service = client.create_service("{urn:gridpost:metering:1}MeteringBinding", ENV["METERING"])
block = {
    "IntervalReadings": [{"timeStamp": ENV["END"], "value": "1.5"}],
    "ReadingType": {"ref": ENV["READING_TYPE"]},
}
reading = {"IntervalBlocks": [block], "Meter": {"mRID": ENV["METER"]}, "UsagePoint": {"mRID": ENV["USAGE_POINT"]}}
header = {"Verb": "created", "Noun": "MeterReadings", "Timestamp": ENV["NOW"], "Source": ENV["SERIAL"]}
try:
    answer = service.PublishCreatedMeterReadings(
        Header=header | {"MessageID": ENV["MESSAGE_ID"]}, Payload={"MeterReadings": {"MeterReading": [reading]}}
    )
    print(f"receipt verified: entry {answer.Payload.Receipt.seq}")
except zeep.exceptions.SignatureVerificationFailed as error:
    print(f"receipt refused: {error}")
except zeep.exceptions.Fault as fault:
    print(f"refused by the bus: {fault.message}")
    sys.exit(1)
