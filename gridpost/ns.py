"""Every XML namespace, algorithm URI and SOAP action in Gridpost, once.

Floor 0: imports nothing. Names are those of the specifications: SOAP 1.1, WS-Security 1.0 (OASIS 2004) with the X.509
token profile, XML Signature, IEC 61968-100 (the envelope) and IEC 61968-9 (the payloads).
"""

SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
DS = "http://www.w3.org/2000/09/xmldsig#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
DS11 = "http://www.w3.org/2009/xmldsig11#"
XSD = "http://www.w3.org/2001/XMLSchema"
WSDL = "http://schemas.xmlsoap.org/wsdl/"

X509V3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"

MESSAGE = "http://iec.ch/TC57/2011/schema/message"
METER_READINGS = "http://iec.ch/TC57/2011/MeterReadings#"
METER_READINGS_MESSAGE = "http://iec.ch/TC57/2011/MeterReadingsMessage"
END_DEVICE_EVENTS = "http://iec.ch/TC57/2011/EndDeviceEvents#"
END_DEVICE_EVENTS_MESSAGE = "http://iec.ch/TC57/2011/EndDeviceEventsMessage"
END_DEVICE_CONTROLS = "http://iec.ch/TC57/2011/EndDeviceControls#"
END_DEVICE_CONTROLS_MESSAGE = "http://iec.ch/TC57/2011/EndDeviceControlsMessage"
CONTROL = "urn:gridpost:control:1"
METER_CONFIG = "http://iec.ch/TC57/2011/MeterConfig#"
METER_CONFIG_MESSAGE = "http://iec.ch/TC57/2011/MeterConfigMessage"
CHANNELS = "urn:gridpost:channels:1"
MAILBOX = "urn:gridpost:mailbox:1"
DOCUMENT = "urn:gridpost:document:1"
RECEIPT = "urn:gridpost:receipt:1"
REFUSAL = "urn:gridpost:refusal:1"
TREE_HEAD = "urn:gridpost:tree-head:1"
TARIFF = "urn:gridpost:tariff:1"
SUPPLY = "urn:gridpost:supply:1"
COMPLETENESS = "urn:gridpost:completeness:1"
ENCRYPTED_READINGS = "urn:gridpost:encrypted-readings:1"

RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
RSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"
RSA_SHA512 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
SHA512 = "http://www.w3.org/2001/04/xmlenc#sha512"

AES256_GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
RSA_OAEP = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
MGF1_SHA256 = "http://www.w3.org/2009/xmlenc11#mgf1sha256"
ECDH_ES = "http://www.w3.org/2009/xmlenc11#ECDH-ES"
CONCAT_KDF = "http://www.w3.org/2009/xmlenc11#ConcatKDF"
KW_AES256 = "http://www.w3.org/2001/04/xmlenc#kw-aes256"


def q(namespace: str, local: str) -> str:
    """Return the Clark name ``{namespace}local``."""
    return f"{{{namespace}}}{local}"
