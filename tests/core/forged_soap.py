"""Forgeries of the threat catalogue 2.2, message level: envelopes that are not the one shape, most rightly signed."""

from __future__ import annotations

from collections.abc import Iterator

from forging import Draft, Forgery, Setting, draft

from gridpost import ns

SHAPE, SIGNATURE, VERSION, UNDERSTAND = "envelope-shape", "signature-invalid", "version-mismatch", "must-understand"
ROW = "2.2 no Envelope, other namespace, SOAP 1.2, Bodies, payload children"


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """Every message-level row of 2.2."""
    yield from _tampered(setting)
    yield from _headers(setting)
    yield from _signed(setting)


def _tampered(setting: Setting) -> Iterator[Forgery]:
    right = draft(setting).sealed().decode()
    header, body = (
        right[right.index(f"<soap:{part}") : right.index(f"</soap:{part}>") + len(part) + 8]
        for part in ("Header", "Body")
    )
    soap12 = right.replace(ns.SOAP11, ns.SOAP12)
    cases = {
        "soap-1.2": (soap12, VERSION),
        "no-namespace": (right.replace("soap:Envelope", "Envelope"), VERSION),
        "foreign-root": (right.replace("soap:Envelope", "wsse:Envelope"), VERSION),
        "payload-bare": (setting.payload(), VERSION),
        "envelope-lower-case": (right.replace("soap:Envelope", "soap:envelope"), VERSION),
        "envelope-in-foreign-root": (f"<a>{right}</a>", VERSION),
        "no-header": (right.replace(header, ""), SHAPE),
        "no-body": (right.replace(body, ""), SHAPE),
        "neither": (right.replace(header, "").replace(body, ""), SHAPE),
        "body-empty": (right.replace(body, '<soap:Body wsu:Id="body"/>'), SHAPE),
        "body-twice": (right.replace(body, body * 2), SHAPE),
        "second-body-without-id": (right.replace(body, body + "<soap:Body><a/></soap:Body>"), SHAPE),
        "first-body-without-id": (right.replace(body, "<soap:Body><a/></soap:Body>" + body), SHAPE),
        "body-before-header": (right.replace(header, "").replace(body, body + header), SHAPE),
        "header-twice": (right.replace(header, header + "<soap:Header/>"), SHAPE),
        "child-behind-body": (right.replace(body, body + "<a/>"), SHAPE),
        "child-before-header": (right.replace(header, "<a/>" + header), SHAPE),
        "child-between": (right.replace(header, header + "<a/>"), SHAPE),
        "text-in-envelope": (right.replace(header, header + "text"), SHAPE),
        "no-break-space-in-envelope": (right.replace(header, header + "\u00a0"), SHAPE),
        "text-in-body": (right.replace("</soap:Body>", "text</soap:Body>"), SHAPE),
        "text-in-security": (right.replace("</wsse:Security>", "text</wsse:Security>"), SHAPE),
        "body-of-soap-1.2": (
            right.replace("soap:Body", "s:Body").replace("<s:Body", f'<s:Body xmlns:s="{ns.SOAP12}"'),
            SHAPE,
        ),
        "header-of-soap-1.2": (
            right.replace("soap:Header", "s:Header").replace("<s:Header", f'<s:Header xmlns:s="{ns.SOAP12}"'),
            SHAPE,
        ),
        "two-payload-children": (right.replace("</soap:Body>", "<a/></soap:Body>"), SHAPE),
        "payload-second": (right.replace('wsu:Id="body">', 'wsu:Id="body"><a/>'), SHAPE),
        "encoding-style": (right.replace("<soap:Envelope ", '<soap:Envelope soap:encodingStyle="x" '), SHAPE),
        "encoding-style-on-body": (right.replace("<soap:Body ", '<soap:Body soap:encodingStyle="x" '), SHAPE),
        "type-on-body": (right.replace("<soap:Body ", f'<soap:Body xmlns:i="{ns.XSD}-instance" i:type="x" '), SHAPE),
        "base-on-body": (right.replace("<soap:Body ", '<soap:Body xml:base="http://x/" '), SHAPE),
    }
    for name, (text, code) in cases.items():
        yield Forgery(f"shape-{name}", ROW, text.encode(), (code,))


def _headers(setting: Setting) -> Iterator[Forgery]:
    actor = 'soap:actor="http://schemas.xmlsoap.org/soap/actor/next"'
    security = draft(setting).security
    cases: dict[str, tuple[dict[str, str], str]] = {
        "stranger-must-be-understood": ({"header": '<a xmlns="u:x" soap:mustUnderstand="1"/>{security}'}, UNDERSTAND),
        "stranger-must-be-understood-true": (
            {"header": '<a xmlns="u:x" soap:mustUnderstand="true"/>{security}'},
            UNDERSTAND,
        ),
        "stranger-must-be-understood-odd": (
            {"header": '{security}<a xmlns="u:x" soap:mustUnderstand="2"/>'},
            UNDERSTAND,
        ),
        "addressing-must-be-understood": (
            {"header": '{security}<To xmlns="http://www.w3.org/2005/08/addressing" soap:mustUnderstand="1">x</To>'},
            UNDERSTAND,
        ),
        "security-not-must-understand": ({"security": security.replace(' soap:mustUnderstand="1"', "")}, SHAPE),
        "security-must-understand-0": ({"security": security.replace('"1"', '"0"')}, SHAPE),
        "security-with-actor": ({"security": security.replace("<wsse:Security", f"<wsse:Security {actor}")}, SHAPE),
        "security-with-empty-actor": (
            {"security": security.replace("<wsse:Security", '<wsse:Security soap:actor=""')},
            SHAPE,
        ),
        "security-twice": ({"header": '{security}<wsse:Security soap:mustUnderstand="1"/>'}, SHAPE),
        "security-empty-first": ({"header": '<wsse:Security soap:mustUnderstand="1"/>{security}'}, SHAPE),
        "security-for-another-beside": ({"header": "{security}<wsse:Security " + actor + "/>"}, SHAPE),
        "security-nested": ({"header": '<a xmlns="u:x">{security}</a>'}, SHAPE),
        "security-missing": ({"header": ""}, SHAPE),
        "security-of-another-namespace": ({"header": '<Security xmlns="u:x" soap:mustUnderstand="0"/>'}, SHAPE),
        "security-empty": ({"security": '<wsse:Security soap:mustUnderstand="1"/>'}, SHAPE),
    }
    for name, (changes, code) in cases.items():
        changes = {
            key: f"<soap:Header>{text}</soap:Header>" if key == "header" else text for key, text in changes.items()
        }
        row = "2.2 mustUnderstand, actor, two Security headers"
        yield Forgery(f"header-{name}", row, draft(setting, **changes).sealed(), (code,))


def _signed(setting: Setting) -> Iterator[Forgery]:
    """Rightly signed, wrong in the Body: refused after verification, so by a signed refusal."""
    payload = setting.payload()
    value = "<value>1.5</value>"
    xop = '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:x"/>'
    soapenc = "http://schemas.xmlsoap.org/soap/encoding/"
    cases = {
        "unknown-operation": ('<a xmlns="u:x"/>', "unknown-operation"),
        "no-namespace-operation": ("<CreatedMeterReadings/>", "unknown-operation"),
        "fault-as-request": ("<soap:Fault><faultcode>x</faultcode><faultstring/></soap:Fault>", "unknown-operation"),
        "answer-as-request": (
            payload.replace("CreatedMeterReadings", "MeterReadingsResponseMessage"),
            "unknown-operation",
        ),
        "get-as-request": (payload.replace("CreatedMeterReadings", "GetMeterReadings"), "unknown-operation"),
        "envelope-as-payload": (
            draft(setting)
            .sealed()
            .decode()
            .replace('"body"', '"b"')
            .replace('"time"', '"t"')
            .replace('"token"', '"k"'),
            "unknown-operation",
        ),
        "href": (payload.replace(value, '<value href="#x"/>'), "schema-invalid"),
        "href-to-unsigned-header": (payload.replace("<MeterReading>", '<MeterReading href="#x">', 1), "schema-invalid"),
        "array": (
            payload.replace("<MeterReading>", f'<MeterReading xmlns:e="{soapenc}" e:arrayType="x[1000000000]">', 1),
            "schema-invalid",
        ),
        "xop-include": (payload.replace(value, f"<value>{xop}</value>"), "schema-invalid"),
        "swa-reference": (payload.replace(value, '<value href="cid:x">1.5</value>'), "schema-invalid"),
        "type-substituted": (
            payload.replace("<value>", '<value xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="i:x">'),
            "schema-invalid",
        ),
        "value-nil": (
            payload.replace("<value>", '<value xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">'),
            "schema-invalid",
        ),
    }
    for name, (text, code) in cases.items():
        yield Forgery(
            f"signed-{name}", "2.2 href, arrays, XOP; dispatch on the signed payload", _sealed(setting, text), (code,)
        )


def _sealed(setting: Setting, payload: str) -> bytes:
    message: Draft = draft(setting, payload)
    return message.sealed()
