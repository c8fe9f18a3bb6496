"""Forgeries of the threat catalogue 2.3 but wrapping: references, transforms, structure, values, algorithms."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator

from forging import (
    BODY,
    EXC,
    SHA1,
    TIME,
    TOKEN,
    Forgery,
    Ref,
    Setting,
    Sign,
    der_signature,
    draft,
    named,
    raw_signature,
    transform,
    with_prefixes,
)

from gridpost import ns

SHAPE, SIGNATURE = "envelope-shape", "signature-invalid"
EITHER = (SIGNATURE, SHAPE)
STR = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#STR-Transform"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """Every row of 2.3 on what is signed and how."""
    for group in (_references, _transforms, _structures, _signed_structures, _values, _algorithms):
        yield from group(setting)


def _references(setting: Setting) -> Iterator[Forgery]:
    url, file = setting.canary
    header = '<soap:Header><a xmlns="u:x" wsu:Id="other"/>{security}</soap:Header>'
    other = Ref("#other", "other")
    cases = {
        "none": draft(setting, refs=()),
        "only-timestamp": draft(setting, refs=(TIME,)),
        "only-body": draft(setting, refs=(BODY,)),
        "only-token": draft(setting, refs=(TOKEN,)),
        "body-and-token": draft(setting, refs=(BODY, TOKEN)),
        "timestamp-and-token": draft(setting, refs=(TIME, TOKEN)),
        "body-twice": draft(setting, refs=(BODY, BODY)),
        "timestamp-twice": draft(setting, refs=(TIME, TIME)),
        "all-and-body-again": draft(setting, refs=(BODY, TIME, BODY)),
        "four": draft(setting, refs=(BODY, TIME, TOKEN, other), header=header),
        "five": draft(setting, refs=(BODY, TIME, TOKEN, BODY, TIME)),
        "to-unsigned-header": draft(setting, refs=(BODY, TIME, other), header=header),
        "to-header-instead-of-body": draft(setting, refs=(other, TIME), header=header),
        "to-nothing": draft(setting, refs=(BODY, TIME, Ref("#nothing", "nothing"))),
        "to-security": draft(
            setting,
            refs=(BODY, TIME, Ref("#sec", "time")),
            security=draft(setting).security.replace("<wsse:Security", '<wsse:Security wsu:Id="sec"'),
        ),
        "to-payload": draft(
            setting,
            setting.payload().replace("<CreatedMeterReadings", '<CreatedMeterReadings wsu:Id="pay"', 1),
            refs=(Ref("#pay", "pay"), TIME),
        ),
        "of-3000": draft(setting, refs=(BODY._replace(value="AAAA"),) * 3000),
        "empty-uri": draft(setting, refs=(BODY._replace(uri=""), TIME)),
        "bare-hash": draft(setting, refs=(BODY._replace(uri="#"), TIME)),
        "no-hash": draft(setting, refs=(BODY._replace(uri="body"), TIME)),
        "external-http": draft(setting, refs=(BODY._replace(uri=url), TIME)),
        "external-file": draft(setting, refs=(BODY._replace(uri=f"file://{file}"), TIME)),
        "external-ftp": draft(setting, refs=(BODY._replace(uri="ftp://127.0.0.1:9/x"), TIME)),
        "external-beside": draft(setting, refs=(BODY, TIME, Ref(url, octets=b"x"))),
        "cid": draft(setting, refs=(BODY._replace(uri="cid:body"), TIME)),
        "xpointer-id": draft(setting, refs=(BODY._replace(uri="#xpointer(id(&apos;body&apos;))"), TIME)),
        "xpointer-root": draft(setting, refs=(BODY._replace(uri="#xpointer(/)"), TIME)),
        "xpath-injection": draft(setting, refs=(BODY._replace(uri="#body&apos;] | //*[&apos;"), TIME)),
        "quote-injection": draft(setting, refs=(BODY._replace(uri="#body&quot;"), TIME)),
        "percent-encoded": draft(setting, refs=(BODY._replace(uri="#%62ody"), TIME)),
        "blank-behind": draft(setting, refs=(BODY._replace(uri="#body "), TIME)),
        "other-case": draft(setting, refs=(BODY._replace(uri="#Body"), TIME)),
        "manifest": draft(
            setting, refs=(BODY._replace(attributes=' Type="http://www.w3.org/2000/09/xmldsig#Manifest"'), TIME)
        ),
        "uri-none": draft(setting, refs=(BODY._replace(uri="#None"), TIME), body="<soap:Body>{payload}</soap:Body>"),
    }
    missing = draft(setting).sealed().replace(b'<ds:Reference URI="#body">', b"<ds:Reference>")
    all_cases = {name: made.sealed() for name, made in cases.items()} | {"no-uri": missing}
    long = "i" * 600
    lengthy = draft(
        setting, body=f'<soap:Body wsu:Id="{long}">{{payload}}</soap:Body>', refs=(Ref(f"#{long}", long), TIME)
    )
    all_cases["id-of-600-characters"] = lengthy.sealed()
    yield from named("2.3 references, Reference URI", "reference", all_cases)


def _transforms(setting: Setting) -> Iterator[Forgery]:
    def one(algorithm: str, content: str = "") -> str:
        return f'<ds:Transform Algorithm="{algorithm}">{content}</ds:Transform>'

    right, url = transform(), setting.canary[0]
    xslt = (
        '<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" version="1.0"><x:template match="/">'
        f"<x:value-of select=\"document('{url}')\"/></x:template></x:stylesheet>"
    )
    filter2 = "http://www.w3.org/2002/06/xmldsig-filter2"
    listed = {
        "empty": "",
        "xslt": one("http://www.w3.org/TR/1999/REC-xslt-19991116", xslt) + right,
        "xpath": one("http://www.w3.org/TR/1999/REC-xpath-19991116", "<ds:XPath>false()</ds:XPath>") + right,
        "xpath-behind": right + one("http://www.w3.org/TR/1999/REC-xpath-19991116", "<ds:XPath>true()</ds:XPath>"),
        "filter2": one(filter2, f'<f:XPath xmlns:f="{filter2}" Filter="subtract">/</f:XPath>') + right,
        "base64": one(f"{ns.DS}base64"),
        "enveloped": one(f"{ns.DS}enveloped-signature") + right,
        "enveloped-only": one(f"{ns.DS}enveloped-signature"),
        "str": one(
            STR,
            "<wsse:TransformationParameters>" + draft(setting).c14n + "</wsse:TransformationParameters>",
        ),
        "with-comments": one(f"{EXC}WithComments"),
        "inclusive": one(C14N),
        "inclusive-1.1": one("http://www.w3.org/2006/12/xml-c14n11"),
        "twice": right + right,
        "unknown": one("urn:unknown"),
        "unknown-beside": right + one("urn:unknown"),
        "no-algorithm": "<ds:Transform/>",
        "attribute-beside": f'<ds:Transform Algorithm="{EXC}" x="1"/>',
        "decrypt": one("http://www.w3.org/2002/07/decrypt#XML") + right,
        "child-of-another-kind": one(EXC, "<ds:XPath>1</ds:XPath>"),
        "two-prefix-lists": one(EXC, f'<e:InclusiveNamespaces xmlns:e="{EXC}" PrefixList="soap"/>' * 2),
        "prefix-list-of-another-namespace": one(EXC, '<InclusiveNamespaces xmlns="urn:x" PrefixList="soap"/>'),
    }
    cases = {
        name: draft(setting, refs=(BODY._replace(transforms=f"<ds:Transforms>{text}</ds:Transforms>"), TIME)).sealed()
        for name, text in listed.items()
    }
    cases["none"] = draft(setting, refs=(BODY._replace(transforms=""), TIME)).sealed()
    listed_body = draft(setting, refs=(with_prefixes(BODY, "wsse", "ds"), TIME)).sealed()
    cases["prefix-list-changed"] = listed_body.replace(b'PrefixList="wsse ds"', b'PrefixList="wsse"')
    # Digest over the form without the list: a verifier that ignores PrefixList would take it.
    cases["prefix-list-not-honoured"] = draft(
        setting, refs=(with_prefixes(BODY, "wsse", "ds")._replace(prefixes=()), TIME)
    ).sealed()
    cases["prefix-list-not-ascii"] = draft(setting, refs=(with_prefixes(BODY, "\u00e9"), TIME)).sealed()
    yield from named("2.3 transforms, PrefixList", "transform", cases, (SIGNATURE,))
    methods = {"inclusive": C14N, "with-comments": f"{EXC}WithComments", "unknown": "urn:x", "none": ""}
    c14n = {
        name: draft(setting, c14n=f'<ds:CanonicalizationMethod Algorithm="{uri}"/>').sealed()
        for name, uri in methods.items()
    }
    c14n["missing"] = draft(setting, c14n="").sealed()
    c14n["last"] = (
        draft(setting)
        .sealed()
        .replace(f'<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{EXC}"/>'.encode(), b"<ds:SignedInfo>")
        .replace(b"</ds:SignedInfo>", f'<ds:CanonicalizationMethod Algorithm="{EXC}"/></ds:SignedInfo>'.encode())
    )
    yield from named("2.3 transforms", "canonicalization", c14n, (SIGNATURE,))


def _structures(setting: Setting) -> Iterator[Forgery]:
    right = draft(setting)
    text = right.sealed().decode()
    info = text[text.index("<ds:SignedInfo>") : text.index("<ds:SignatureValue>")]
    key_info, value = right.key_info, text[text.index("<ds:SignatureValue>") : text.index("<ds:KeyInfo>")]
    signature = text[text.index("<ds:Signature>") : text.index("</ds:Signature>") + 15]
    false_info = info.replace("#body", "#other")
    cases = {
        "signed-info-twice": text.replace(info, info * 2),
        "false-signed-info-first": text.replace(info, false_info + info),
        "false-signed-info-last": text.replace("</ds:Signature>", false_info + "</ds:Signature>"),
        "signed-info-in-object": text.replace(info, false_info).replace(
            "</ds:Signature>", f"<ds:Object>{info}</ds:Object></ds:Signature>"
        ),
        "signed-info-nested": text.replace(info, info.replace("</ds:SignedInfo>", false_info + "</ds:SignedInfo>")),
        "signed-info-empty": text.replace(info, "<ds:SignedInfo/>"),
        "signed-info-with-one-child": text.replace(info, f"<ds:SignedInfo>{right.c14n}</ds:SignedInfo>"),
        "signed-info-missing": text.replace(info, ""),
        "signed-info-of-another-namespace": text.replace(info, '<SignedInfo xmlns="urn:x"/>'),
        "signature-value-twice": text.replace(value, value * 2),
        "signature-value-missing": text.replace(value, ""),
        "signature-value-empty": text.replace(value, "<ds:SignatureValue/>"),
        "signature-value-with-child": text.replace("</ds:SignatureValue>", "<a/></ds:SignatureValue>"),
        "key-info-twice": text.replace(key_info, key_info * 2),
        "key-info-missing": text.replace(key_info, ""),
        "key-info-empty": text.replace(key_info, "<ds:KeyInfo/>"),
        "key-info-first": text.replace(key_info, "").replace("<ds:Signature>", "<ds:Signature>" + key_info),
        "object-behind": text.replace("</ds:Signature>", "<ds:Object/></ds:Signature>"),
        "signature-twice": text.replace(signature, signature * 2),
        "signature-missing": text.replace(signature, ""),
        "signature-empty": text.replace(signature, "<ds:Signature/>"),
        "signature-in-key-info": text.replace(
            key_info, key_info.replace("<ds:KeyInfo>", "<ds:KeyInfo><ds:Signature/>")
        ),
        "digest-value-twice": text.replace(
            "</ds:Reference>", "<ds:DigestValue>AAAA</ds:DigestValue></ds:Reference>", 1
        ),
        "digest-value-empty": _blank(text, "DigestValue"),
        "digest-value-with-child": text.replace("</ds:DigestValue>", "<a/></ds:DigestValue>", 1),
        "digest-value-with-no-break-space": text.replace("<ds:DigestValue>", "<ds:DigestValue>\u00a0", 1),
        "digest-value-not-base64": text.replace("<ds:DigestValue>", "<ds:DigestValue>*", 1),
        "digest-method-with-child": text.replace(
            f'<ds:DigestMethod Algorithm="{ns.SHA256}"/>',
            f'<ds:DigestMethod Algorithm="{ns.SHA256}"><a/></ds:DigestMethod>',
            1,
        ),
        "digest-method-missing": text.replace(f'<ds:DigestMethod Algorithm="{ns.SHA256}"/>', "", 1),
        "signature-method-missing": text.replace(
            f'<ds:SignatureMethod Algorithm="{setting.signer.algorithm}"></ds:SignatureMethod>', ""
        ),
        "manifest-reference": text.replace("ds:Reference", "ds:Manifest"),
    }
    encoded = {name: text.encode() for name, text in cases.items()}
    yield from named("2.3 two SignedInfo, SignatureValue, KeyInfo, Signatures; DigestValue", "structure", encoded)


def _signed_structures(setting: Setting) -> Iterator[Forgery]:
    """The same kind of oddity, but signed by the device itself: only the shape can refuse it."""
    open_list, close_list = f'<e:InclusiveNamespaces xmlns:e="{EXC}" PrefixList="soap"', "</e:InclusiveNamespaces>"
    odd_list, full_list = f'{open_list} x="1">{close_list}', f"{open_list}><a/>{close_list}"
    method, transform_tag = f'<ds:DigestMethod Algorithm="{ns.SHA256}"', f'<ds:Transform Algorithm="{EXC}"'
    pairs = {
        "reference-of-another-name": ('<ds:Reference URI="#body">', '<ds:Object URI="#body">'),
        "reference-with-more": ("</ds:DigestValue>", "</ds:DigestValue><ds:DigestValue/>"),
        "reference-attribute": ('URI="#body"', 'URI="#body" Type="urn:x"'),
        "digest-method-with-child": (f"{method}/>", f"{method}><a/></ds:DigestMethod>"),
        "digest-value-with-child": ("</ds:DigestValue>", "<a/></ds:DigestValue>"),
        "digest-value-with-no-break-space": ("</ds:DigestValue>", "\u00a0</ds:DigestValue>"),
        "digest-value-in-white-space": ("</ds:DigestValue>", " " * 600 + "</ds:DigestValue>"),
        "digest-value-empty": ("@digest0@", ""),
        "transforms-with-two-children": ("</ds:Transforms>", "<ds:XPath/></ds:Transforms>"),
        "transform-of-another-name": (f"{transform_tag}/>", f'<ds:XPath Algorithm="{EXC}"/>'),
        "transform-of-another-namespace": (f"{transform_tag}/>", f'<Transform xmlns="urn:x" Algorithm="{EXC}"/>'),
        "list-with-attribute": (f"{transform_tag}/>", f"{transform_tag}>{odd_list}</ds:Transform>"),
        "list-with-child": (f"{transform_tag}/>", f"{transform_tag}>{full_list}</ds:Transform>"),
        "list-without-list": (
            f"{transform_tag}/>",
            f'{transform_tag}><e:InclusiveNamespaces xmlns:e="{EXC}"/></ds:Transform>',
        ),
        "c14n-of-another-name": ("<ds:CanonicalizationMethod", "<ds:DigestMethod"),
        "c14n-with-child": (
            f'<ds:CanonicalizationMethod Algorithm="{EXC}"/>',
            f'<ds:CanonicalizationMethod Algorithm="{EXC}"><ds:X/></ds:CanonicalizationMethod>',
        ),
        "signature-method-without-algorithm": (f' Algorithm="{setting.signer.algorithm}"', ""),
        "six-children": ("</ds:SignedInfo>", "<ds:Object/></ds:SignedInfo>"),
        "signature-value-with-child": ("</ds:SignatureValue>", "<a/></ds:SignatureValue>"),
        "key-info-with-child-in-reference": (
            "/></wsse:SecurityTokenReference>",
            "><a/></wsse:Reference></wsse:SecurityTokenReference>",
        ),
    }
    cases = {}
    for name, (old, new) in pairs.items():
        closing = ("</ds:Reference>", "</ds:Object>") if name == "reference-of-another-name" else ("", "")
        cases[name] = draft(setting, rewrite=_replacing((old, new), closing)).sealed()
    # Six prefixes of a hundred characters: few enough, too long.
    cases["list-of-600-characters"] = draft(
        setting, refs=(with_prefixes(BODY, *(f"p{number}" + "x" * 100 for number in range(6))), TIME)
    ).sealed()
    no_token_id = draft(setting).token.replace(' wsu:Id="token"', "")
    cases["token-named-none"] = draft(setting, token=no_token_id, rewrite=_replacing(("#token", "#None"))).sealed()
    yield from named("2.3 signed, and not of the shape", "signed-structure", cases)


def _replacing(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def rewrite(text: str) -> str:
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new, 1)
        return text

    return rewrite


def _blank(text: str, name: str) -> str:
    start = text.index(f"<ds:{name}>") + len(name) + 5
    return text[:start] + text[text.index(f"</ds:{name}>") :]


def _values(setting: Setting) -> Iterator[Forgery]:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, FIPS 186-4 D.1.2.3
    fixed = {
        "zero": b"\0" * 64,
        "r-zero": b"\0" * 32 + b"\1" * 32,
        "s-zero": b"\1" * 32 + b"\0" * 32,
        "r-is-order": order.to_bytes(32) + b"\1" * 32,
        "s-is-order": b"\1" * 32 + order.to_bytes(32),
        "all-ones": b"\xff" * 64,
        "one": b"\1",
        "blank": b" ",
        "random": bytes(range(64)),
        "long": b"\1" * 100_000,
    }
    cases = {name: draft(setting, sign=lambda *_, octets=octets: octets).sealed() for name, octets in fixed.items()}
    cases["der"] = draft(setting, sign=der_signature).sealed()
    for name, change in {
        "padded-behind": lambda octets: octets + b"\0",
        "padded-before": lambda octets: b"\0" + octets,
        "padded-middle": lambda octets: octets[:32] + b"\0" + octets[32:],
        "padded-halves": lambda octets: b"\0" + octets[:32] + b"\0" + octets[32:],
        "short": lambda octets: octets[:-1],
        "half": lambda octets: octets[:32],
        "halves-exchanged": lambda octets: octets[32:] + octets[:32],
        "bit-flipped": lambda octets: bytes([octets[0] ^ 1]) + octets[1:],
        "r-plus-order": lambda octets: (int.from_bytes(octets[:32]) + order).to_bytes(33) + octets[32:],
    }.items():
        cases[name] = draft(setting, sign=_changed(change)).sealed()
    text = draft(setting).sealed().decode()
    cases["base64-cut"] = text.replace("==</ds:SignatureValue>", "</ds:SignatureValue>").encode()
    cases["base64-url"] = text.replace("<ds:SignatureValue>", "<ds:SignatureValue>-_-_").encode()
    cases["base64-more-behind"] = text.replace("==</ds:SignatureValue>", "==AAAA</ds:SignatureValue>").encode()
    cases["with-no-break-space"] = text.replace("<ds:SignatureValue>", "<ds:SignatureValue>\u00a0").encode()
    cases["of-another-message"] = _transplanted(setting)
    yield from named("2.3 ECDSA r=s=0, DER; SignatureValue padded, short, zero", "signature-value", cases)


def _changed(change: Callable[[bytes], bytes]) -> Sign:
    return lambda signer, octets, method: change(raw_signature(signer, octets, method))


def _transplanted(setting: Setting) -> bytes:
    one, two = (draft(setting).sealed().decode() for _ in range(2))

    def part(text: str) -> str:
        return text[text.index("<ds:SignatureValue>") : text.index("</ds:SignatureValue>")]

    return one.replace(part(one), part(two)).encode()


def _algorithms(setting: Setting) -> Iterator[Forgery]:
    certificate = setting.signer.certificate

    def mac(name: str) -> Sign:
        return lambda signer, octets, method: hmac.digest(certificate, octets, name)

    cases = {
        "hmac-sha256-by-certificate": draft(setting, method=f"{MORE}hmac-sha256", sign=mac("sha256")),
        "hmac-sha1-by-certificate": draft(setting, method=f"{ns.DS}hmac-sha1", sign=mac("sha1")),
        "hmac-of-length-8": draft(
            setting,
            method=f"{MORE}hmac-sha256",
            sign=lambda *a: mac("sha256")(*a)[:1],
            method_children="<ds:HMACOutputLength>8</ds:HMACOutputLength>",
        ),
        "hmac-of-length-0": draft(
            setting,
            method=f"{MORE}hmac-sha256",
            sign=lambda *_: b"\0",
            method_children="<ds:HMACOutputLength>0</ds:HMACOutputLength>",
        ),
        "method-with-child": draft(setting, method_children="<ds:HMACOutputLength>8</ds:HMACOutputLength>"),
        "method-of-another-name": draft(setting, method_tag="ds:Method"),
        "none": draft(setting, method="none", sign=lambda *_: b"x"),
        "unknown": draft(setting, method="urn:x"),
        "rsa-for-an-ec-key": draft(setting, method=ns.RSA_SHA256),
        "ecdsa-sha1": draft(setting, method=f"{MORE}ecdsa-sha1"),
        "ecdsa-sha224": draft(setting, method=f"{MORE}ecdsa-sha224"),
        "ecdsa-says-sha384-is-sha256": draft(setting, method=ns.ECDSA_SHA384, sign=_by(ns.ECDSA_SHA256)),
        "rsa-sha1": draft(setting, method=f"{ns.DS}rsa-sha1"),
        "rsa-md5": draft(setting, method=f"{MORE}rsa-md5"),
        "rsa-ripemd160": draft(setting, method=f"{MORE}rsa-ripemd160"),
        "rsa-pss": draft(setting, method="http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"),
        "dsa-sha1": draft(setting, method=f"{ns.DS}dsa-sha1"),
        "ed25519": draft(setting, method="http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519"),
        "digest-sha1": draft(setting, refs=(BODY._replace(digest=SHA1), TIME)),
        "digest-md5": draft(setting, refs=(BODY._replace(digest=f"{MORE}md5"), TIME)),
        "digest-sha224": draft(setting, refs=(BODY._replace(digest=f"{MORE}sha224"), TIME)),
        "digest-unknown": draft(setting, refs=(BODY._replace(digest="urn:x"), TIME)),
        "digest-empty": draft(setting, refs=(BODY._replace(digest=""), TIME)),
        "digest-of-nothing": draft(setting, refs=(BODY._replace(octets=b""), TIME)),
        "digest-cut": draft(setting, refs=(BODY._replace(value="AAAA"), TIME)),
        "digest-sha1-of-timestamp": draft(setting, refs=(BODY, TIME._replace(digest=SHA1))),
    }
    made = {name: drafted.sealed() for name, drafted in cases.items()}
    yield from named("2.3 SHA-1, MD5, RIPEMD, DSA, HMAC, none", "algorithm", made, (SIGNATURE,))


def _by(method: str) -> Sign:
    return lambda signer, octets, _: raw_signature(signer, octets, method)
