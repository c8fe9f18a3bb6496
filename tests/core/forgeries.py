"""All forgeries, and the genuine messages that look odd: one list for the core's tests and for the campaign over HTTP.

Each part follows a section of the threat catalogue. A forgery is wrong in one thing, so that what refuses it is known.
"""

from __future__ import annotations

import forged_content
import forged_keys
import forged_signature
import forged_soap
import forged_wrapping
import forged_xml
from forging import BODY, TIME, TOKEN, Forgery, Genuine, Setting, clock, draft, transform, with_prefixes
from lxml import etree

from gridpost import ns

PARTS = (forged_xml, forged_soap, forged_wrapping, forged_signature, forged_keys, forged_content)


def forgeries(setting: Setting) -> list[Forgery]:
    """Every forged or malformed message, made for `setting.now_utc_ms`; names are unique."""
    made = [forgery for part in PARTS for forgery in part.forgeries(setting)]
    names = [forgery.name for forgery in made]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    return made


def genuine(setting: Setting) -> list[Genuine]:
    """Messages that must be taken although they look otherwise than ours."""
    return [*_orders(setting), *_spellings(setting), *_covers(setting), *_payloads(setting)]


def _orders(setting: Setting) -> list[Genuine]:
    parts = ("{token}", "{timestamp}", "{signature}")
    orders = [(a, b, c) for a in parts for b in parts for c in parts if len({a, b, c}) == 3]
    security = '<wsse:Security soap:mustUnderstand="1">{}</wsse:Security>'
    return [
        Genuine(
            f"order-{'-'.join(part.strip('{}') for part in order)}",
            draft(setting, security=security.format("".join(order))).sealed(),
        )
        for order in orders
    ]


def _spellings(setting: Setting) -> list[Genuine]:
    def text(**changes: object) -> str:
        return draft(setting, **changes).sealed().decode()

    addressing = (
        '<w:To xmlns:w="http://www.w3.org/2005/08/addressing">http://127.0.0.1:9/</w:To>'
        f'<w:ReplyTo xmlns:w="http://www.w3.org/2005/08/addressing"><w:Address>{setting.canary[0]}</w:Address></w:ReplyTo>'
    )
    located = f'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="urn:x {setting.canary[0]}"'
    renamed = draft(setting)
    declared = renamed.declared.replace("xmlns:soap", "xmlns:SOAP-ENV").replace("xmlns:wsse", "xmlns:o")
    cases = {
        "plain": text(),
        "declaration": '<?xml version="1.0" encoding="UTF-8"?>\n' + text(),
        "declaration-in-apostrophes": "<?xml version='1.0' encoding='utf-8' standalone='yes' ?>" + text(),
        "bom": "\ufeff" + text(),
        "bom-and-declaration": '\ufeff<?xml version="1.0" encoding="utf-8"?>' + text(),
        "blanks-before": " \r\n" + text(),
        "blanks-behind": text() + "\r\n",
        "blanks-in-security": text(
            security='<wsse:Security soap:mustUnderstand="1">\n {timestamp}\n\t{token}\r\n{signature}\n</wsse:Security>'
        ),
        "blanks-in-envelope": text(envelope="<soap:Envelope {declared}>\n{header}\n{body}\n</soap:Envelope>"),
        "blanks-in-body": text(body='<soap:Body wsu:Id="body">\n  {payload}\r\n</soap:Body>'),
        "blanks-in-signature-value": text().replace("<ds:SignatureValue>", "<ds:SignatureValue>\n\t"),
        "blanks-in-token": text().replace('X509v3" wsu:Id="token">', 'X509v3" wsu:Id="token">\n  '),
        "attributes-exchanged": text().replace(
            f'EncodingType="{ns.BASE64}" ValueType="{ns.X509V3}" wsu:Id="token"',
            f"wsu:Id='token' ValueType='{ns.X509V3}'  EncodingType='{ns.BASE64}'",
        ),
        "empty-elements": text().replace("</ds:Reference>", "</ds:Reference >").replace("></ds:SignatureMethod>", "/>"),
        "unsigned-header": text(header='<soap:Header><a xmlns="urn:x">hello</a>{security}</soap:Header>'),
        "unsigned-header-behind": text(
            header='<soap:Header>{security}<a xmlns="urn:x" soap:mustUnderstand="0"/></soap:Header>'
        ),
        "addressing": text(header=f"<soap:Header>{addressing}{{security}}</soap:Header>"),
        "header-id": text(header='<soap:Header wsu:Id="head">{security}</soap:Header>'),
        "schema-location": text(envelope=f"<soap:Envelope {{declared}} {located}>{{header}}{{body}}</soap:Envelope>"),
        "language-on-envelope": text(
            envelope='<soap:Envelope {declared} xml:lang="en" xml:space="preserve">{header}{body}</soap:Envelope>'
        ),
        "more-declarations": text(
            declared=renamed.declared + " " + " ".join(f'xmlns:p{n}="urn:{n}"' for n in range(40))
        ),
        "declared-late": text(
            declared=f'xmlns:soap="{ns.SOAP11}"',
            security=renamed.security.replace(
                "<wsse:Security", f'<wsse:Security xmlns:wsse="{ns.WSSE}" xmlns:wsu="{ns.WSU}" xmlns:ds="{ns.DS}"'
            ),
            body=f'<soap:Body xmlns:wsu="{ns.WSU}" wsu:Id="body">{{payload}}</soap:Body>',
        ),
        "soap-as-default": text(
            envelope=f'<Envelope {{declared}} xmlns="{ns.SOAP11}">{{header}}{{body}}</Envelope>',
            header="<Header>{security}</Header>",
            body='<Body wsu:Id="body">{payload}</Body>',
        ),
        "signature-ids": text(signature=renamed.signature.replace("<ds:Signature>", '<ds:Signature Id="sig">')),
        "token-reference-usage": text(
            key_info=renamed.key_info.replace(
                "<wsse:SecurityTokenReference>", '<wsse:SecurityTokenReference wsu:Id="str">'
            )
        ),
        "reference-untyped": text(key_info=renamed.key_info.replace(f' ValueType="{ns.X509V3}"', "")),
        "token-untyped-encoding": text(token=renamed.token.replace(f'EncodingType="{ns.BASE64}" ', "")),
        "ids-of-uuid": text().replace('"body"', '"id-4f2e.1_x"').replace("#body", "#id-4f2e.1_x"),
        "prefixes": text(
            declared=declared,
            envelope="<SOAP-ENV:Envelope {declared}>{header}{body}</SOAP-ENV:Envelope>",
            header="<SOAP-ENV:Header>{security}</SOAP-ENV:Header>",
            body='<SOAP-ENV:Body wsu:Id="body">{payload}</SOAP-ENV:Body>',
            security='<o:Security SOAP-ENV:mustUnderstand="1">{token}{timestamp}{signature}</o:Security>',
            token=renamed.token.replace("wsse:", "o:"),
            key_info=renamed.key_info.replace("wsse:", "o:"),
        ),
    }
    # Ids are signed as part of the Body, so a changed one is signed anew.
    cases["ids-of-uuid"] = text(
        body='<soap:Body wsu:Id="id-4f2e.1_x">{payload}</soap:Body>',
        refs=(BODY._replace(uri="#id-4f2e.1_x", target="id-4f2e.1_x"), TIME),
    )
    return [Genuine(name, raw.encode()) for name, raw in cases.items()]


def _covers(setting: Setting) -> list[Genuine]:
    expires = f"<wsu:Expires>{clock(setting.now_utc_ms + 300_000)}</wsu:Expires>"
    list_of_info = ("soap", "wsse")
    empty_list = transform(("@",)).replace("@", "")
    cases = {
        "token-covered": draft(setting, refs=(BODY, TIME, TOKEN)),
        "token-first": draft(setting, refs=(TOKEN, TIME, BODY)),
        "expires": draft(setting, expires=expires),
        "expires-in-ten-years": draft(setting, expires="<wsu:Expires>2099-01-01T00:00:00Z</wsu:Expires>"),
        "created-in-another-zone": draft(setting, created=_east(setting.now_utc_ms)),
        "created-without-fraction": draft(setting, created=clock(setting.now_utc_ms // 1000 * 1000)[:19] + "Z"),
        "prefix-list": draft(setting, refs=(with_prefixes(BODY, "soap", "wsse", "ds"), with_prefixes(TIME, "soap"))),
        "prefix-list-default": draft(
            setting,
            refs=(with_prefixes(BODY, "#default", "wsse"), TIME),
            declared=draft(setting).declared + ' xmlns="urn:default"',
        ),
        "prefix-list-unknown": draft(setting, refs=(with_prefixes(BODY, "nothing"), TIME)),
        "prefix-list-of-signed-info": draft(
            setting, c14n=transform(list_of_info, "CanonicalizationMethod"), c14n_prefixes=list_of_info
        ),
        "prefix-list-empty": draft(
            setting,
            refs=(BODY._replace(transforms=f"<ds:Transforms>{empty_list}</ds:Transforms>"), TIME),
        ),
        "sha-384": draft(setting, refs=(BODY._replace(digest=ns.SHA384), TIME._replace(digest=ns.SHA512))),
        "reference-ids": draft(setting, refs=(BODY._replace(attributes=' Id="r1"'), TIME)),
        "ecdsa-sha384-of-p-256": draft(setting, method=ns.ECDSA_SHA384),
        "seconds-ahead": draft(setting, created=clock(setting.now_utc_ms + 40_000)),
        "minutes-old": draft(setting, created=clock(setting.now_utc_ms - 14 * 60_000)),
    }
    return [Genuine(name, drafted.sealed()) for name, drafted in cases.items()]


def _east(utc_ms: int) -> str:
    """The same moment as a clock 5:45 h east of UTC shows it (Asia/Kathmandu)."""
    return clock(utc_ms + (5 * 60 + 45) * 60_000)[:-1] + "+05:45"


def _payloads(setting: Setting) -> list[Genuine]:
    value, url = "<value>1.5</value>", setting.canary[0]
    instance = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'

    def changed(old: str, new: str) -> bytes:
        payload = setting.payload()
        assert old in payload
        return draft(setting, payload.replace(old, new)).sealed()

    code, words = '<ReadingQualityType ref="1.4.9"/>', "<comment>a &lt;b&gt; &amp; c&#13;d</comment>"
    quality = f"<ReadingQualities>{words}{code}</ReadingQualities>"
    cases = {
        "values-signed": changed(value, "<value>-0.000</value>"),
        "value-of-18-digits": changed(value, "<value>900719925474.099312</value>"),
        "value-with-plus": changed(value, "<value>+1.5</value>"),
        "value-with-blanks": changed(value, "<value>\n 1.5\t</value>"),
        "value-by-references": changed(value, "<value>&#49;&#x2E;5</value>"),
        "value-missing-and-said-so": changed(
            value, '<ReadingQualities><ReadingQualityType ref="2.5.259"/></ReadingQualities>'
        ),
        "quality-with-words": changed(value, value + quality),
        "schema-location-in-payload": changed(
            "<MeterReading>",
            f'<MeterReading {instance} i:schemaLocation="urn:x {url} {ns.METER_READINGS} {url}">',
        ),
        "no-namespace-schema-location": changed(
            "<MeterReading>", f'<MeterReading {instance} i:noNamespaceSchemaLocation="{url}">'
        ),
        "time-in-another-zone": changed(
            f"<timeStamp>{clock(setting.last_end_utc * 1000)[:19]}Z",
            f"<timeStamp>{_east(setting.last_end_utc * 1000).replace('.000', '')}",
        ),
        "body-prefix-used-in-payload": draft(
            setting, setting.payload().replace("</Header>", f'<x:note xmlns:x="{ns.SOAP11}">soap:</x:note></Header>', 1)
        ).sealed(),
        "body-prefix-redeclared-in-payload": draft(
            setting,
            setting.payload().replace(
                "</Header>", '<soap:note xmlns:soap="urn:other" wsu:x="1">wsu:</soap:note></Header>', 1
            ),
        ).sealed(),
        "payload-without-default": _prefixed(setting),
    }
    values = {
        "values-signed": "-0.000",
        "value-of-18-digits": "900719925474.099312",
        "value-missing-and-said-so": None,
    }
    return [Genuine(f"payload-{name}", raw, values.get(name, "1.5")) for name, raw in cases.items()]


def _prefixed(setting: Setting) -> bytes:
    """Every namespace by prefix, declared on the Envelope: what gSOAP and WCF send."""
    root = etree.fromstring(setting.payload())
    prefixes = {ns.METER_READINGS_MESSAGE: "w", ns.MESSAGE: "h", ns.METER_READINGS: "m"}

    def written(element: etree._Element) -> str:
        name = etree.QName(element)
        tag = f"{prefixes[name.namespace]}:{name.localname}"
        attributes = "".join(f' {key}="{value}"' for key, value in element.attrib.items())
        return f"<{tag}{attributes}>{element.text or ''}{''.join(map(written, element))}</{tag}>"

    declared = draft(setting).declared + "".join(f' xmlns:{prefix}="{space}"' for space, prefix in prefixes.items())
    return draft(setting, written(root), declared=declared).sealed()
