"""Single messages of at most 1 MiB, each as dear to a bus as its shape can be made; none of them is to be taken.

Three ways to send one: bare (no envelope worth the name), `captured` (around it the genuine Security header of another
message, so that the key's work and the canonical form are spent), `signed` by an enrolled device (so that the schema,
the model and the business rules are reached). Names say what is overdone.
"""

# ruff: noqa: E501 - a table of messages, each best read on one line

from __future__ import annotations

import base64
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

from forging import BODY, TIME, Ref, Setting, draft, transform, with_prefixes

from gridpost import ns, units

MOST = 1 << 20
CAP = 99_000  # '<' and '=' a message may have, less what the envelope itself needs
_M = ns.METER_READINGS
SIGNED_TREES = (
    "namespaces-56-used-by-all", "namespaces-nested", "namespaces-rebound", "wide-many-names", "text-of-returns",
    "attributes-64-each", "nodes-of-four", "nodes-of-ids", "nodes-namespaces",
)  # fmt: skip
_BODY = re.compile(rb"(<soap:Body[^>]*>).*(</soap:Body>)", re.DOTALL)


class Nasty(NamedTuple):
    """A message and its name."""

    name: str
    raw: bytes


def _filled(piece: Callable[[int], str], room: int = MOST - 9000, most: int = CAP) -> str:
    """As many pieces as fit."""
    made, length = [], 0
    for number in range(most):
        text = piece(number)
        length += len(text.encode())
        if length > room:
            break
        made.append(text)
    return "".join(made)


# --- any XML ---------------------------------------------------------------------------------------------------------


def trees() -> Mapping[str, str]:
    """Elements that may stand anywhere, well-formed, within every cap or just beyond one."""
    noise = random.Random(1)
    names = "".join(f' xmlns:p{n}="urn:{n}"' for n in range(56))
    letters = "".join(noise.choices("abcdefghijklmnopqrstuvwxyz", k=900_000))
    return {
        "wide": f"<a>{_filled(lambda _: '<b/>', most=CAP - 10)}</a>",
        "wide-many-names": f"<a>{_filled(lambda n: f'<n{n:x}/>')}</a>",
        "wide-long-names": f"<a>{_filled(lambda n: f'<n{n:0200x}/>')}</a>",
        "deep-60": _filled(lambda _: "<a>" * 54 + "</a>" * 54, most=CAP // 110),
        "deep-250": "<a>" * 250 + "</a>" * 250,
        "deep-100000": "<a>" * 49_000 + "</a>" * 49_000,
        "deep-unclosed": "<a>" * 98_000,
        "attributes-64-each": f"<a>{_filled(lambda _: '<b' + ''.join(f' a{n}=``'.replace('`', chr(34)) for n in range(60)) + '/>', most=CAP // 61)}</a>",
        "attributes-of-one": f"<a{_filled(lambda n: f' a{n:x}=``'.replace('`', chr(34)))}/>",
        "attributes-twice": f"<a{_filled(lambda n: f' a{n % 50_000:x}=``'.replace('`', chr(34)))}/>",
        "attribute-long": f'<a b="{letters}"/>',
        "attribute-of-breaks": f'<a b="{chr(10) * 990_000}"/>',
        "attribute-of-references": f'<a b="{"&#10;" * 190_000}"/>',
        "namespaces-of-one": f"<a{_filled(lambda n: f' xmlns:p{n:x}=`u:{n:x}`'.replace('`', chr(34)))}/>",
        "namespaces-56-used-by-all": f"<a{names}>{_filled(lambda n: f'<p{n % 56}:b/>')}</a>",
        "namespaces-56-and-attributes": f"<a{names}>{_filled(lambda n: f'<b p{n % 56}:c=``/>'.replace('`', chr(34)))}</a>",
        "namespaces-each-its-own": f"<a>{_filled(lambda n: f'<b xmlns=`u:{n:x}`/>'.replace('`', chr(34)))}</a>",
        "namespaces-nested": _filled(lambda _: "".join(f"<a xmlns:q{n}='urn:u'>" for n in range(50)) + "</a>" * 50, most=CAP // 100),
        "namespaces-rebound": f"<a>{_filled(lambda n: f'<q:b xmlns:q=`u:{n % 7}`><q:c/></q:b>'.replace('`', chr(34)), most=CAP // 3)}</a>",
        "namespaces-unbound": f"<a>{_filled(lambda n: f'<z{n:x}:b/>')}</a>",
        "text-long": f"<a>{letters}</a>",
        "text-of-entities": f"<a>{'&lt;' * 250_000}</a>",
        "text-of-references": f"<a>{'&#65;' * 200_000}</a>",
        "text-of-wide-references": f"<a>{'&#x10FFFF;' * 100_000}</a>",
        "text-of-returns": f"<a>{'&#13;' * 200_000}</a>",
        "text-like-entities": f"<a>{'&x;' * 330_000}</a>",
        "text-of-line-ends": "<a>" + "\r\n" * 500_000 + "</a>",
        "text-of-brackets": f"<a>{']]' * 490_000}</a>",
        "text-of-greater": f"<a>{'>' * 990_000}</a>",
        "text-of-three-octets": f"<a>{chr(0xFFFD) * 330_000}</a>",
        # Just within what a tree may hold: 150,000 nodes.
        "nodes-of-four": f"<a>{_filled(lambda n: f'x<n{n:x} c=``/>'.replace('`', chr(34)), most=37_400)}</a>",
        "nodes-of-attributes": f"<a>{_filled(lambda n: f'<b n{n:x}=``/>'.replace('`', chr(34)), most=49_900)}</a>",
        "nodes-of-ids": f"<a>{_filled(lambda n: f'<b id=`i{n:x}`/>'.replace('`', chr(34)), most=49_900)}</a>",
        "nodes-of-texts": f"<a>{_filled(lambda n: f'x<n{n:x}/>', most=74_900)}</a>",
        "nodes-of-greater": f"<a>{_filled(lambda n: f'<n{n:x}/>>', most=74_900)}</a>",
        "nodes-namespaces": f"<a{names}>{_filled(lambda n: f'x<p{n % 56}:b p{(n + 1) % 56}:c=``/>'.replace('`', chr(34)), most=37_300)}</a>",
        "texts-and-attributes": f"<a>{_filled(lambda _: 'x<b c=``/>'.replace('`', chr(34)))}</a>",
        "attributes-each": f"<a>{_filled(lambda _: '<b c=``/>'.replace('`', chr(34)))}</a>",
        "texts-mixed": f"<a>{_filled(lambda _: 'x<b/>')}</a>",
        "ids": f"<a>{_filled(lambda n: f'<b Id=`i{n:x}`/>'.replace('`', chr(34)))}</a>",
        "ids-one-twice": f"<a>{_filled(lambda n: f'<b id=`i{n:x}`/>'.replace('`', chr(34)), most=CAP - 9)}<b Id='i0'/></a>",
        "ids-of-xml": f"<a>{_filled(lambda n: f'<b xml:id=`i{n:x}`/>'.replace('`', chr(34)))}</a>",
        "languages": f"<a>{_filled(lambda _: '<b xml:lang=`x`/>'.replace('`', chr(34)))}</a>",
        "broken-at-the-end": f"<a>{_filled(lambda _: '<b/>')}</b>",
        "bad-octet-at-the-end": f"<a>{letters}\udcff</a>",
        "comments": f"<a>{'<!-- -->' * 90_000}</a>",
        "instructions": f"<a>{'<?x y?>' * 90_000}</a>",
        "cdata": f"<a>{'<![CDATA[x]]>' * 70_000}</a>",
    }  # fmt: skip


def _doctypes() -> Iterator[Nasty]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    yield Nasty("bare laughs", f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><a>&l11;</a>'.encode())
    yield Nasty("bare quadratic", f'<!DOCTYPE a [<!ENTITY e "{"a" * 500_000}">]><a>{"&e;" * 150_000}</a>'.encode())
    yield Nasty(
        "bare doctype-long",
        f"<!DOCTYPE a [{_filled(lambda n: f'<!ENTITY e{n:x} `x`>'.replace('`', chr(34)))}]><a/>".encode(),
    )
    yield Nasty("bare declaration-long", b"<?xml version='1.0'" + b" " * 1_000_000 + b"?><a/>")
    yield Nasty("bare blanks", b" " * MOST)
    yield Nasty("bare less-than", b"<" * MOST)
    yield Nasty("bare nothing-like-xml", random.Random(2).randbytes(MOST))
    yield Nasty("bare utf-16", ("<a>" + "b" * 500_000 + "</a>").encode("utf-16"))


# --- envelopes -------------------------------------------------------------------------------------------------------


def _captured(genuine: bytes, tree: str) -> bytes:
    return _BODY.sub(lambda body: body[1] + tree.encode("utf-8", "surrogateescape") + body[2], genuine)


def _headers(setting: Setting) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Changes of a right message: what is overdone is in the Header or in the Signature."""
    plain = draft(setting)
    long = base64.b64encode(bytes(740_000)).decode()
    spaced = " \n".join(long[:340_000])
    many = "".join(f"<x:h{n:x} xmlns:x='urn:x' soap:mustUnderstand='0'/>" for n in range(15_000))
    securities = "{security}" * 200
    listed = " ".join(f"p{n}" for n in range(160_000))[:900_000]
    prefixes = [f"p{n}" for n in range(32)]
    declared = plain.declared + "".join(f' xmlns:{name}="urn:{name}"' for name in prefixes)
    wide = f"<a>{_filled(lambda _: '<b/>', most=CAP - 200)}</a>"
    used = f"<a>{_filled(lambda n: f'<p{n % 32}:b/>', most=CAP - 200)}</a>"
    references = tuple(Ref(value="AAAA") for _ in range(3_000))
    yield from {
        "token-long": {"token": plain.token.replace("{certificate}", long)},
        "token-spaced": {"token": plain.token.replace("{certificate}", spaced)},
        "signature-value-long": {"sign": lambda *_: bytes(740_000)},
        "signature-value-twice": {"sign": lambda *_: bytes(370_000)},
        "digest-long": {"refs": (BODY._replace(value=long), TIME)},
        "references-3000": {"refs": references, "unsigned": True},
        "reference-uri-long": {"refs": (BODY._replace(uri="#" + "x" * 900_000, value="AAAA"), TIME), "unsigned": True},
        "prefix-list-long": {"refs": (with_prefixes(BODY, listed)._replace(value="AAAA"), TIME), "unsigned": True},
        "prefix-list-of-signed-info-long": {"c14n": transform((listed,), "CanonicalizationMethod"), "unsigned": True},
        "prefix-list-32-over-wide": {
            "declared": declared,
            "payload": wide,
            "refs": (with_prefixes(BODY, *prefixes), TIME),
        },
        "prefix-list-32-over-used": {
            "declared": declared,
            "payload": used,
            "refs": (with_prefixes(BODY, *prefixes), TIME),
        },
        "headers": {"header": f"<soap:Header>{many}{{security}}</soap:Header>"},
        "securities": {"header": f"<soap:Header>{securities}</soap:Header>", "unsigned": True},
        "timestamp-wide": {"timestamp": plain.timestamp.replace("{expires}", "<wsu:x/>" * 90_000)},
        "created-long": {"created": "2026-01-01T00:00:00." + "0" * 900_000 + "Z"},
        "created-digits": {"created": "9" * 900_000},
        "key-info-wide": {"key_info": f"<ds:KeyInfo>{'<ds:X/>' * 90_000}</ds:KeyInfo>"},
        "signed-info-wide": {"method_children": "<ds:X/>" * 90_000, "unsigned": True},
        "algorithm-long": {"method": "urn:" + "x" * 900_000},
        "objects": {"signature": plain.signature.replace("{key_info}", "{key_info}" + "<ds:Object/>" * 70_000)},
    }.items()


# --- signed by an enrolled device ------------------------------------------------------------------------------------


def _message(setting: Setting, readings: str, header: str = "", message_id: str = "nasty-1") -> str:
    return (
        f'<CreatedMeterReadings xmlns="{ns.METER_READINGS_MESSAGE}" xmlns:h="{ns.MESSAGE}"><Header>'
        f"<h:Verb>created</h:Verb><h:Noun>MeterReadings</h:Noun>"
        f"<h:Timestamp>{units.format_utc_ms(setting.now_utc_ms)}</h:Timestamp><h:Source>{setting.source}</h:Source>"
        f"<h:MessageID>{message_id}</h:MessageID>{header}</Header>"
        f'<Payload><MeterReadings xmlns="{_M}">{readings}</MeterReadings></Payload></CreatedMeterReadings>'
    )


def _reading(setting: Setting, inside: str, meter: str = "", ref: str = "") -> str:
    key = setting.channel.key
    return (
        f'<MeterReading><IntervalBlocks>{inside}<ReadingType ref="{ref or key.reading_type}"/></IntervalBlocks>'
        f"<Meter><mRID>{meter or key.meter}</mRID><Names><name>{key.stream}</name><NameType><name>channel</name>"
        f"</NameType></Names></Meter><UsagePoint><mRID>{key.usage_point}</mRID></UsagePoint></MeterReading>"
    )


def _interval(setting: Setting, number: int, value: str = "1.5", quality: str = "", stamp: str = "") -> str:
    stamp = stamp or units.format_utc(setting.last_end_utc - 900 * number)
    return f"<IntervalReadings><timeStamp>{stamp}</timeStamp><value>{value}</value>{quality}</IntervalReadings>"


def _signed(setting: Setting) -> Iterator[tuple[str, str]]:
    quality = '<ReadingQualities><ReadingQualityType ref="2.4.0"/></ReadingQualities>'
    commented = '<ReadingQualities><comment>{}</comment><ReadingQualityType ref="2.4.0"/></ReadingQualities>'
    room = 14_000  # elements, so that '<' stays under its cap

    def many(make: Callable[[int], str], most: int = room) -> str:
        return _message(setting, _reading(setting, _filled(make, most=most)))

    one = _reading(setting, _interval(setting, 0))
    yield "values-no-numbers", many(lambda n: _interval(setting, n, "x"))
    yield "values-19-digits", many(lambda n: _interval(setting, n, "1234567890123456789"))
    yield "values-500-digits", many(lambda n: _interval(setting, n, "9" * 500))
    yield "value-of-a-megabyte", many(lambda n: _interval(setting, n, "9" * 990_000), 1)
    yield "value-of-zeros", many(lambda n: _interval(setting, n, "0." + "0" * 990_000), 1)
    yield "values-empty", many(lambda n: _interval(setting, n, ""))
    yield "values-not-a-number", many(lambda n: _interval(setting, n, "NaN"))
    yield "values-in-blanks", many(lambda n: _interval(setting, n, " \n 1.5 "))
    yield "stamps-wrong", many(lambda n: _interval(setting, n, stamp="2026-02-30T00:00:00Z"))
    yield "stamps-without-zone", many(lambda n: _interval(setting, n, stamp="2026-01-01T00:00:00"))
    yield "stamps-far", many(lambda n: _interval(setting, n, stamp=f"{9000 + n % 999}-01-01T00:00:00Z"))
    yield (
        "stamps-off-grid",
        many(lambda n: _interval(setting, n, stamp=units.format_utc(setting.last_end_utc - 900 * n - 7))),
    )
    yield "stamps-equal", many(lambda n: _interval(setting, 0, str(n)))
    yield "stamps-before-assignment", many(lambda n: _interval(setting, 250_000 + n))
    yield "stamps-in-future", many(lambda n: _interval(setting, -n - 3))
    yield "qualities-of-one", many(lambda n: _interval(setting, 0, "1.5", quality * 13_000), 1)
    yield "qualities-five-each", many(lambda n: _interval(setting, n, "x", quality * 5), 2_400)
    yield "qualities-unknown", many(lambda n: _interval(setting, n, "x", quality.replace("2.4.0", "x.y.z")))
    yield "comments-long", many(lambda n: _interval(setting, n, "x", commented.format("c" * 1024)))
    yield "comments-too-long", many(lambda n: _interval(setting, n, "x", commented.format("c" * 1025)))
    yield "elements-unknown", many(lambda n: f"<x{n}/>", 90_000)
    yield "elements-of-no-namespace", many(lambda _: '<IntervalReadings xmlns=""/>', 30_000)
    yield (
        "elements-in-wrong-order",
        many(lambda n: "<IntervalReadings><value>1</value><timeStamp>x</timeStamp></IntervalReadings>"),
    )
    yield "elements-empty", many(lambda _: "<IntervalReadings/>", 48_000)
    yield "attributes-unknown", many(lambda n: f'<IntervalReadings a{n}=""/>', 48_000)
    yield (
        "attributes-60-unknown",
        many(lambda _: f"<IntervalReadings {' '.join(f'a{n}=``' for n in range(50))}/>".replace("`", '"'), 1_900),
    )
    yield (
        "nil",
        many(lambda _: '<IntervalReadings xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="1"/>', 20_000),
    )
    yield (
        "types-asked-for",
        many(lambda _: '<IntervalReadings xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="x"/>', 20_000),
    )
    yield "text-between", many(lambda n: "x" + _interval(setting, n))
    yield (
        "channels-unknown",
        _message(setting, _filled(lambda n: _reading(setting, _interval(setting, n), f"M{n}"), most=4_000)),
    )
    yield (
        "channel-again",
        _message(setting, _filled(lambda n: _reading(setting, _interval(setting, n, "x")), most=4_000)),
    )
    yield (
        "reading-types-unknown",
        _message(setting, _filled(lambda n: _reading(setting, _interval(setting, n), ref=f"0.0.{n}"), most=4_000)),
    )
    yield (
        "reading-types-various",
        _message(
            setting,
            _filled(lambda n: _reading(setting, _interval(setting, n), ref=f"{n}." + "0." * 16 + "0"), most=4_000),
        ),
    )
    yield "reading-type-long", _message(setting, _reading(setting, _interval(setting, 0), ref="1." * 490_000 + "1"))
    yield "meter-long", _message(setting, _reading(setting, _interval(setting, 0), "M" * 990_000))
    yield "registers-unknown", _message(setting, _filled(lambda n: _register(setting, n), most=4_000))
    yield (
        "registers-of-one",
        _message(
            setting,
            _reading(setting, "")
            .replace("<IntervalBlocks>", "", 1)
            .replace("</IntervalBlocks>", "", 1)
            .replace(
                "<MeterReading>",
                "<MeterReading>"
                + _filled(
                    lambda n: (
                        f'<Readings><timeStamp>{units.format_utc(setting.last_end_utc - n)}</timeStamp><value>x</value><ReadingType ref="0.0.{n}"/></Readings>'
                    ),
                    most=12_000,
                ),
            ),
        ),
    )
    late = _reading(setting, _interval(setting, -9))
    yield "readings-empty", _message(setting, _filled(lambda _: "<MeterReading/>", MOST - 12_000) + late)
    yield (
        "properties",
        _message(
            setting,
            one,
            _filled(lambda n: f"<h:Property><h:Name>p{n}</h:Name><h:Value>v</h:Value></h:Property>", most=16_000),
        ),
    )
    yield (
        "sequence-long",
        _message(setting, one, f"<h:Property><h:Name>sequence</h:Name><h:Value>{'9' * 990_000}</h:Value></h:Property>"),
    )
    yield "message-id-long", _message(setting, one, message_id="m" * 990_000)
    yield "events", _events(setting, _filled(lambda n: _event(n, ""), most=6_000))
    yield (
        "event-details",
        _events(
            setting,
            _event(
                0,
                _filled(
                    lambda n: f"<EndDeviceEventDetails><name>{n}</name><value>v</value></EndDeviceEventDetails>",
                    most=16_000,
                ),
            ),
        ),
    )
    yield "operation-unknown", f"<a xmlns='urn:x'>{_filled(lambda _: '<b/>', most=CAP - 200)}</a>"


def _register(setting: Setting, number: int) -> str:
    stamp = units.format_utc(setting.last_end_utc)
    readings = f'<Readings><timeStamp>{stamp}</timeStamp><value>1</value><ReadingType ref="0.0.0.1.{number}.1.12.0.0.0.0.0.0.0.0.3.72.0"/></Readings>'
    key = setting.channel.key
    return (f"<MeterReading><Meter><mRID>{key.meter}</mRID></Meter>{readings}"
            f"<UsagePoint><mRID>{key.usage_point}</mRID></UsagePoint></MeterReading>")  # fmt: skip


def _event(number: int, details: str) -> str:
    return (f"<EndDeviceEvent><mRID>e{number}</mRID><createdDateTime>x</createdDateTime><Assets><mRID>M1</mRID></Assets>"
            f'{details}<EndDeviceEventType ref="12.26.39.47"/></EndDeviceEvent>')  # fmt: skip


def _events(setting: Setting, events: str) -> str:
    text = _message(setting, "").replace(ns.METER_READINGS_MESSAGE, ns.END_DEVICE_EVENTS_MESSAGE)
    return (
        text.replace("CreatedMeterReadings", "CreatedEndDeviceEvents").replace("<h:Noun>MeterReadings", "<h:Noun>EndDeviceEvents")
        .replace(f'<MeterReadings xmlns="{_M}"></MeterReadings>', f'<EndDeviceEvents xmlns="{ns.END_DEVICE_EVENTS}">{events}</EndDeviceEvents>')
    )  # fmt: skip


def nasty(setting: Setting, genuine: bytes, only: str = "") -> Iterator[Nasty]:
    """Yield every message whose name matches `only`, none larger than 1 MiB; making them all takes some seconds.

    Args:
        setting: the device whose key signs; its `now_utc_ms` is what messages are stamped with.
        genuine: a message of that device that was stored; its Security header is the captured one.
        only: a regular expression, looked for in the name.
    """
    for name, make in _all(setting, genuine):
        if not re.search(only, name):
            continue
        raw = make()
        if len(raw) > MOST:
            raise AssertionError(f"{name}: {len(raw)} bytes")
        yield Nasty(name, raw)


def _all(setting: Setting, genuine: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names, and what makes the message of that name."""
    for one in _doctypes():
        yield one.name, lambda one=one: one.raw
    made = trees()
    for name, tree in made.items():
        yield f"captured {name}", lambda tree=tree: _captured(genuine, tree)
    for name, change in _headers(setting):
        yield f"header {name}", lambda change=change: draft(setting, **change).sealed()
    for name, payload in (*_signed(setting), *((name, made[name]) for name in SIGNED_TREES)):
        yield f"signed {name}", lambda payload=payload: draft(setting, payload).sealed()
