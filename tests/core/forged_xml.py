"""Forgeries of the threat catalogue 2.1: what must be refused while parsing, before anything is trusted."""

from __future__ import annotations

from collections.abc import Iterator

from forging import TIME, Forgery, Ref, Setting, draft, with_prefixes

from gridpost import ns

MALFORMED, MARKUP, LIMIT, LARGE = "malformed-xml", "forbidden-markup", "limit-exceeded", "message-too-large"
SHAPE, SIGNATURE = "envelope-shape", "signature-invalid"


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """Every row of 2.1."""
    right = draft(setting).sealed()
    for group in (_doctypes, _encodings, _fragments, _markup, _limits, _namespaces):
        yield from group(setting, right)
    yield from _prefix_lists(setting)


def _doctypes(setting: Setting, right: bytes) -> Iterator[Forgery]:
    url, file = (place.encode() for place in setting.canary)
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    doctypes = {
        "empty": b"<!DOCTYPE soap:Envelope>",
        "internal": b'<!DOCTYPE soap:Envelope [<!ENTITY e "x">]>',
        "system-file": b'<!DOCTYPE soap:Envelope SYSTEM "file://%s">' % file,
        "system-http": b'<!DOCTYPE soap:Envelope SYSTEM "%s">' % url,
        "public": b'<!DOCTYPE soap:Envelope PUBLIC "-//W3C//DTD XHTML 1.0//EN" "%s">' % url,
        "entity-file": b'<!DOCTYPE soap:Envelope [<!ENTITY e SYSTEM "file://%s">]>' % file,
        "entity-http": b'<!DOCTYPE soap:Envelope [<!ENTITY e SYSTEM "%s">]>' % url,
        "parameter-entity": b'<!DOCTYPE soap:Envelope [<!ENTITY %% p SYSTEM "%s"> %%p;]>' % url,
        "billion-laughs": b'<!DOCTYPE soap:Envelope [<!ENTITY l0 "ha">' + laughs + b'<!ENTITY e "&l9;">]>',
        "quadratic-blow-up": b'<!DOCTYPE soap:Envelope [<!ENTITY e "' + b"a" * 50_000 + b'">]>',
        "recursive-entity": b'<!DOCTYPE soap:Envelope [<!ENTITY e "&f;"><!ENTITY f "&e;">]>',
        "attlist-default": b'<!DOCTYPE soap:Envelope [<!ATTLIST value x CDATA "1">]>',
        "attlist-id": b"<!DOCTYPE soap:Envelope [<!ATTLIST value x ID #IMPLIED>]>",
        "notation": b'<!DOCTYPE soap:Envelope [<!NOTATION n SYSTEM "%s">]>' % url,
    }
    for name, doctype in doctypes.items():
        used = right.replace(b"<value>1.5<", b"<value>&e;<") if b"ENTITY e" in doctype else right
        yield Forgery(f"doctype-{name}", "2.1 DOCTYPE", doctype + used, (MARKUP,))
    yield Forgery("doctype-behind-bom", "2.1 DOCTYPE", b"\xef\xbb\xbf<!DOCTYPE a>" + right, (MARKUP,))
    yield Forgery("doctype-behind-blanks", "2.1 DOCTYPE", b" \n\t<!DOCTYPE a>" + right, (MARKUP,))
    yield Forgery("doctype-lower-case", "2.1 DOCTYPE", b"<!doctype a>" + right, (MARKUP,))
    yield Forgery("doctype-behind-root", "2.1 DOCTYPE", right + b"<!DOCTYPE a>", (MARKUP,))
    declared = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "1.5">]>' + right.replace(b">1.5<", b">&e;<")
    yield Forgery("doctype-behind-declaration", "2.1 DOCTYPE", declared, (MARKUP,))
    yield Forgery("undefined-entity", "2.1 XXE", right.replace(b">1.5<", b">&e;<"), (MALFORMED,))
    wide = ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]>' + right.decode()).encode("utf-16")
    yield Forgery("doctype-in-utf-16", "2.1 DOCTYPE", wide, (MALFORMED,))


def _encodings(setting: Setting, right: bytes) -> Iterator[Forgery]:
    text = right.decode()

    def declared(encoding: str) -> str:
        return f'<?xml version="1.0" encoding="{encoding}"?>{text}'

    cases = {
        "utf-16-with-bom": declared("utf-16").encode("utf-16"),
        "utf-16le-bare": text.encode("utf-16-le"),
        "utf-16be-bare": text.encode("utf-16-be"),
        "utf-16be-declared": declared("utf-16").encode("utf-16-be"),
        "utf-32-with-bom": declared("utf-32").encode("utf-32"),
        "utf-32be-bare": text.encode("utf-32-be"),
        "utf-7": declared("utf-7").replace("<value>", "+ADw-value+AD4-").encode(),
        "ebcdic": declared("cp037").encode("cp037"),
        "latin-1": declared("iso-8859-1").encode("latin-1"),
        "latin-1-with-an-umlaut": declared("iso-8859-1").replace(">1.5<", ">1.5\xe4<").encode("latin-1"),
        "says-utf-16-is-utf-8": declared("utf-16").encode(),
        "unknown": declared("x-klingon").encode(),
        "ascii": declared("us-ascii").encode(),
        "utf8-misspelt": declared("utf8").encode(),
        "xml-1.1": f'<?xml version="1.1"?>{text}'.encode(),
        "xml-2.0": f'<?xml version="2.0"?>{text}'.encode(),
        "declaration-without-version": f'<?xml encoding="utf-8"?>{text}'.encode(),
        "declaration-unfinished": f'<?xml version="1.0" {text}'.encode(),
        "bom-twice": b"\xef\xbb\xbf" * 2 + right,
        "bom-of-utf-16-before-utf-8": b"\xff\xfe" + right,
    }
    for name, raw in cases.items():
        yield Forgery(f"encoding-{name}", "2.1 encodings", raw, (MALFORMED,))
    late = b"\n" + declared("utf-8").encode()
    yield Forgery("declaration-not-first", "2.1 encodings", late, (MARKUP,))
    yield Forgery("declaration-twice", "2.1 encodings", b'<?xml version="1.0"?>' * 2 + right, (MARKUP,))


def _fragments(setting: Setting, right: bytes) -> Iterator[Forgery]:
    def value(octets: bytes) -> bytes:
        return right.replace(b">1.5<", b">" + octets + b"<")

    cases = {
        "invalid-utf-8": value(b"1.5\xe9"),
        "overlong-utf-8": value(b"1.5\xc0\xbc"),
        "utf-8-surrogate": value(b"1.5\xed\xa0\x80"),
        "utf-8-cut": value(b"1.5\xe2\x82"),
        "nul-in-text": value(b"1.5\0"),
        "nul-behind-root": right + b"\0",
        "nul-and-more-behind-root": right + b"\0" + right,
        "nul-first": b"\0" + right,
        "reference-to-nul": value(b"1.5&#0;"),
        "reference-to-control": value(b"1.5&#x1F;"),
        "reference-to-surrogate": value(b"1.5&#xD800;"),
        "reference-beyond-unicode": value(b"1.5&#x110000;"),
        "noncharacter": value(b"1.5\xef\xbf\xbf"),
        "cut-in-half": right[: len(right) // 2],
        "cut-by-one": right[:-1],
        "cut-before-body": right[: right.index(b"<soap:Body")],
        "text-behind": right + b"x",
        "two-roots": right + b"<a/>",
        "two-envelopes": right + right,
        "envelope-between-text": b"x" + right,
        "empty": b"",
        "white-space": b" \n\t ",
        "bom-only": b"\xef\xbb\xbf",
        "json": b'{"soap:Envelope": 1}',
        "end-tag-first": b"</a>" + right,
        "bracket-in-attribute": right.replace(b'wsu:Id="body"', b'wsu:Id="<"'),
        "unquoted-attribute": right.replace(b'wsu:Id="body"', b"wsu:Id=body"),
        "tags-crossed": right.replace(b"</value></IntervalReadings>", b"</IntervalReadings></value>"),
        "bare-ampersand": value(b"1.5&"),
        "end-of-cdata-in-text": value(b"1.5]]>"),
        "gzip": b"\x1f\x8b\x08" + right,
    }
    for name, raw in cases.items():
        yield Forgery(f"fragment-{name}", "2.1 invalid UTF-8, NUL, truncated, two roots", raw, (MALFORMED,))


def _markup(setting: Setting, right: bytes) -> Iterator[Forgery]:
    pairs = {
        "comment-in-value": (b">1.5<", b">1.<!-- -->5<"),
        "comment-in-created": (b"<wsu:Created>", b"<wsu:Created><!-- -->"),
        "comment-in-digest": (b"<ds:DigestValue>", b"<ds:DigestValue><!--x-->"),
        "comment-in-signature-value": (b"<ds:SignatureValue>", b"<ds:SignatureValue><!--x-->"),
        "comment-in-body": (b"</soap:Body>", b"<!-- --></soap:Body>"),
        "comment-before-payload": (b"<CreatedMeterReadings", b"<!-- --><CreatedMeterReadings"),
        "instruction-in-value": (b">1.5<", b">1.<?x?>5<"),
        "instruction-in-body": (b"</soap:Body>", b"<?php?></soap:Body>"),
        "cdata-in-value": (b">1.5<", b"><![CDATA[1.5]]><"),
        "cdata-in-digest": (b"<ds:DigestValue>", b"<ds:DigestValue><![CDATA[]]>"),
        "instruction-in-digest": (b"<ds:DigestValue>", b"<ds:DigestValue><?x?>"),
    }
    row = "2.1 comments and PIs; 2.3 DigestValue comment, CDATA, PI"
    for name, (old, new) in pairs.items():
        yield Forgery(name, row, right.replace(old, new), (MARKUP,))
    yield Forgery("comment-first", row, b"<!-- -->" + right, (MARKUP,))
    yield Forgery("comment-last", row, right + b"<!-- -->", (MARKUP,))
    sheet = b'<?xml-stylesheet href="%s"?>' % setting.canary[0].encode()
    yield Forgery("stylesheet", "2.1 xml-stylesheet", sheet + right, (MARKUP, MALFORMED))
    yield Forgery("instruction-last", row, right + b"<?x?>", (MARKUP,))


def _limits(setting: Setting, right: bytes) -> Iterator[Forgery]:
    def extra(content: bytes) -> bytes:
        return right.replace(b"<soap:Header>", b"<soap:Header>" + content)

    nest = {depth: b"<a>" * (depth - 2) + b"</a>" * (depth - 2) for depth in (65, 200, 5000)}
    cases = {
        "depth-65": (nest[65], (LIMIT,)),
        "depth-200": (nest[200], (LIMIT,)),
        "depth-5000": (nest[5000], (MALFORMED, LIMIT)),
        "elements-100001": (b"<a/>" * 100_001, (LIMIT,)),
        "elements-500000": (b"<a/>" * 500_000, (LARGE,)),
        "attributes-65": (b"<a " + b" ".join(b'a%d=""' % n for n in range(65)) + b"/>", (LIMIT,)),
        "attributes-20000": (b"<a " + b" ".join(b'a%d=""' % n for n in range(20_000)) + b"/>", (LIMIT,)),
        "equals-100001": (b"<a>" + b"=" * 100_001 + b"</a>", (LIMIT,)),
        "namespaces-65": (b"<a " + b" ".join(b'xmlns:p%d="u:%d"' % (n, n) for n in range(65)) + b"/>", (LIMIT,)),
        "namespaces-20000": (b"<a " + b" ".join(b'xmlns:p%d="u:x"' % n for n in range(20_000)) + b"/>", (LIMIT,)),
        "namespaces-repeated": (_repeated_namespaces(), (LIMIT,)),
        "text-11-mb": (b"<a>" + b"x" * 11_000_000 + b"</a>", (LARGE,)),
        "attribute-11-mb": (b'<a b="' + b"x" * 11_000_000 + b'"/>', (LARGE,)),
        "one-octet-too-many": (b"<a>" + b"x" * ((1 << 20) - len(right) - 6) + b"</a>", (LARGE,)),
        "long-name": (b"<" + b"n" * 60_000 + b"/>", (MALFORMED, LIMIT)),
    }
    for name, (content, codes) in cases.items():
        yield Forgery(f"limit-{name}", "2.1 huge text, elements, attributes, namespaces, depth", extra(content), codes)


def _repeated_namespaces() -> bytes:
    """60 declarations on each of 55 levels over 60,000 leaves: cheap to write, quadratic to look up."""
    level = b"<a " + b" ".join(b'xmlns:p%d="u:%d"' % (n, n) for n in range(60)) + b">"
    return level * 55 + b"<b/>" * 60_000 + b"</a>" * 55


def _namespaces(setting: Setting, right: bytes) -> Iterator[Forgery]:
    root = b"<soap:Envelope "

    def declared(what: bytes) -> bytes:
        return right.replace(root, root + what + b" ")

    cases = {
        "undeclared-prefix": right.replace(b"<value>1.5</value>", b"<p:value>1.5</p:value>"),
        "undeclared-attribute-prefix": right.replace(b"<value>", b'<value p:x="">'),
        "attribute-twice": right.replace(b'wsu:Id="body"', b'wsu:Id="body" wsu:Id="body"'),
        "attribute-twice-by-namespace": right.replace(
            b'wsu:Id="body"', b'wsu:Id="body" xmlns:w="%s" w:Id="x"' % ns.WSU.encode()
        ),
        "prefix-xml-rebound": declared(b'xmlns:xml="urn:x"'),
        "prefix-xmlns-bound": declared(b'xmlns:xmlns="urn:x"'),
        "xml-namespace-as-default": declared(b'xmlns="http://www.w3.org/XML/1998/namespace"'),
        "xml-namespace-by-another-prefix": declared(b'xmlns:p="http://www.w3.org/XML/1998/namespace"'),
        "xmlns-namespace-bound": declared(b'xmlns:p="http://www.w3.org/2000/xmlns/"'),
        "prefix-unbound": declared(b'xmlns:p=""'),
        "name-with-two-colons": right.replace(b"<value>1.5</value>", b"<a:b:c>1.5</a:b:c>"),
    }
    for name, raw in cases.items():
        yield Forgery(f"namespace-{name}", "2.1 undeclared prefix, duplicate attribute", raw, (MALFORMED,))
    tampered = {
        "xml-id-no-name": right.replace(b"<value>", b'<value xml:id="1 2">'),
        "default-taken-away": right.replace(b"<CreatedMeterReadings xmlns=", b'<CreatedMeterReadings xmlns="" x=', 1),
        "prefix-of-body-rebound": right.replace(b"<soap:Body ", b'<soap:Body xmlns:wsu="urn:x" '),
        "relative-in-body": right.replace(b"<value>", b'<value xmlns:p="relative">'),
        "relative-as-default-in-body": right.replace(b"<MeterReading>", b'<MeterReading xmlns="relative">', 1),
        "xinclude-in-body": right.replace(
            b"<value>1.5</value>",
            b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file://%s"/>' % setting.canary[1].encode(),
        ),
    }
    for name, raw in tampered.items():
        yield Forgery(f"namespace-{name}", "2.1 relative namespace URI, xmlns tricks", raw, (SIGNATURE, SHAPE))
    include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{setting.canary[0]}"/>'
    payload = setting.payload().replace("<value>1.5</value>", include)
    yield Forgery("xinclude-signed", "2.1 XInclude", draft(setting, payload).sealed(), ("schema-invalid",))


def _prefix_lists(setting: Setting) -> Iterator[Forgery]:
    """A PrefixList is looked up for each element of the part: a price somebody else must not set."""
    row = "2.3 InclusiveNamespaces PrefixList; 2.1 bounded cost"
    many = tuple(f"p{n}" for n in range(100_000))
    info = Ref()._replace(value="AAAA")
    long = draft(setting, refs=(with_prefixes(info, *many), TIME), sign=lambda *_: b"x" * 64, unsigned=True)
    yield Forgery("prefix-list-of-100000", row, long.sealed(), (SIGNATURE,))
    c14n = (
        f'<ds:CanonicalizationMethod Algorithm="{ns.EXC_C14N}"><ec:InclusiveNamespaces xmlns:ec="{ns.EXC_C14N}" '
        f'PrefixList="{" ".join(many)}"/></ds:CanonicalizationMethod>'
    )
    references = (info,) * 1000
    crowded = draft(setting, refs=references, c14n=c14n, sign=lambda *_: b"x" * 64, unsigned=True)
    yield Forgery("prefix-list-of-100000-over-1000-references", row, crowded.sealed(), (SIGNATURE,))
