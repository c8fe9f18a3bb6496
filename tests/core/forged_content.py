"""Forgeries of the threat catalogue 2.4 and 2.5: rightly signed by an enrolled device, and still not to be taken."""

from __future__ import annotations

from collections.abc import Iterator

from forging import Forgery, Setting, clock, draft

from gridpost import messages, ns, testing, units
from gridpost.model import Channel, ChannelKey, EndDeviceEvent

SIGNATURE, SHAPE, SCHEMA, HEADER, REFUSED = (
    "signature-invalid",
    "envelope-shape",
    "schema-invalid",
    "header-incomplete",
    "readings-refused",
)
MINUTE = 60_000
VALUE = "<value>1.5</value>"


def forgeries(setting: Setting) -> Iterator[Forgery]:
    """Every row of 2.4 and 2.5 about a message, and whose message it is (2.3)."""
    for group in (_timestamps, _ages, _headers, _identities, _numbers, _times, _channels, _shapes):
        yield from group(setting)


def _timestamps(setting: Setting) -> Iterator[Forgery]:
    now = clock(setting.now_utc_ms)
    whole = draft(setting).timestamp
    texts = {
        "no-zone": now[:-1],
        "lower-z": now[:-1] + "z",
        "blank-for-t": now.replace("T", " "),
        "hour-24": now[:11] + "24:00:00Z",
        "leap-second": now[:11] + "23:59:60Z",
        "year-10000": "10000-01-01T00:00:00Z",
        "year-0": "0000-01-01T00:00:00Z",
        "year-1": "0001-01-01T00:00:00+14:00",
        "year-9999": "9999-12-31T23:59:59-14:00",
        "february-30": "2026-02-30T00:00:00Z",
        "month-13": "2026-13-01T00:00:00Z",
        "date-only": now[:10] + "Z",
        "empty": "",
        "number": str(setting.now_utc_ms),
        "arabic-digits": now.replace("0", "\u0660"),
        "zone-of-15-hours": now[:-1] + "+15:00",
        "zone-without-colon": now[:-1] + "+0000",
        "zone-by-name": now[:-1] + "UTC",
        "negative-year": "-2026-01-01T00:00:00Z",
        "week-date": "2026-W01-1T00:00:00Z",
        "comma": now.replace(".", ","),
    }
    cases = {name: draft(setting, created=text) for name, text in texts.items()}
    expires = "<wsu:Expires>{}</wsu:Expires>".format
    before, equal = clock(setting.now_utc_ms - 1), now
    cases |= {
        "expires-before-created": draft(setting, expires=expires(before)),
        "expires-at-created": draft(setting, expires=expires(equal)),
        "expires-without-zone": draft(setting, expires=expires("2036-01-01T00:00:00")),
        "expires-garbage": draft(setting, expires=expires("never")),
        "expires-twice": draft(setting, expires=expires("2036-01-01T00:00:00Z") * 2),
        "created-twice": draft(setting, expires=f"<wsu:Created>{now}</wsu:Created>"),
        "created-missing": draft(setting, timestamp='<wsu:Timestamp wsu:Id="time"></wsu:Timestamp>'),
        "created-with-child": draft(setting, timestamp=whole.replace("{created}", "{created}<a/>")),
        "child-beside": draft(setting, expires="<a/>"),
        "of-another-namespace": draft(
            setting, timestamp=whole.replace("<wsu:Created", "<wsse:Created").replace("</wsu:Created", "</wsse:Created")
        ),
        "missing": draft(setting, timestamp="", refs=draft(setting).refs[:1]),
        "twice": draft(setting, timestamp=whole + whole.replace('"time"', '"t2"')),
        "no-id": draft(setting, timestamp=whole.replace(' wsu:Id="time"', "")),
    }
    for name, drafted in cases.items():
        row = "2.4 Timestamp none, no zone, Expires < Created, leap second, 24:00, year 10000"
        yield Forgery(f"timestamp-{name}", row, drafted.sealed(), (SIGNATURE, SHAPE))


def _ages(setting: Setting) -> Iterator[Forgery]:
    ages = {
        "15-minutes-and-a-second": (15 * MINUTE + 1000, "message-stale"),
        "a-day": (1440 * MINUTE, "message-stale"),
        "two-years": (2 * 365 * 1440 * MINUTE, "message-stale", SIGNATURE),  # perhaps older than the certificate
        "62-seconds-ahead": (-62_000, "message-from-future"),
        "a-day-ahead": (-1440 * MINUTE, "message-from-future"),
        "ten-years-ahead": (-3650 * 1440 * MINUTE, "message-from-future", SIGNATURE),
    }
    for name, (age_ms, *codes) in ages.items():
        raw = draft(setting, created=clock(setting.now_utc_ms - age_ms)).sealed()
        yield Forgery(f"age-{name}", "2.4 stale > 15 min, future > 60 s", raw, tuple(codes))
    ahead = draft(
        setting, expires="<wsu:Expires>2099-01-01T00:00:00Z</wsu:Expires>", created=clock(setting.now_utc_ms - 3600_000)
    )
    yield Forgery("age-an-hour-with-a-long-life", "2.4 10-year life", ahead.sealed(), ("message-stale",))
    yield Forgery("age-1970", "2.4 stale", draft(setting, created="1970-01-01T00:00:00Z").sealed(), (SIGNATURE,))


def _headers(setting: Setting) -> Iterator[Forgery]:
    payload = setting.payload()
    space = f' xmlns="{ns.MESSAGE}"'

    def field(name: str) -> str:
        start = payload.index(f"<{name}{space}>")
        return payload[start : payload.index(f"</{name}>") + len(name) + 3]

    def said(name: str, text: str) -> str:
        return payload.replace(field(name), f"<{name}{space}>{text}</{name}>", 1)

    long = "x" * 65
    cases = {
        "no-source": (payload.replace(field("Source"), ""), HEADER),
        "empty-source": (said("Source", ""), HEADER),
        "no-message-id": (payload.replace(field("MessageID"), ""), HEADER),
        "empty-message-id": (said("MessageID", " "), HEADER),
        "message-id-of-65": (said("MessageID", long), HEADER),
        "message-id-not-ascii": (said("MessageID", "\u00e4"), HEADER),
        "message-id-with-newline": (said("MessageID", "a&#10;b"), HEADER),
        "message-id-twice": (payload.replace(field("MessageID"), field("MessageID") * 2), SCHEMA),
        "no-timestamp": (payload.replace(field("Timestamp"), ""), HEADER),
        "timestamp-without-zone": (said("Timestamp", "2026-01-01T00:00:00"), HEADER),
        "timestamp-garbage": (said("Timestamp", "now"), SCHEMA),
        "verb-changed": (said("Verb", "changed"), HEADER),
        "verb-unknown": (said("Verb", "invent"), SCHEMA),
        "noun-other": (said("Noun", "EndDeviceEvents"), HEADER),
        "no-verb": (payload.replace(field("Verb"), ""), SCHEMA),
        "sequence-not-a-number": (payload.replace("<Value>1</Value>", "<Value>one</Value>"), HEADER),
        "sequence-negative": (payload.replace("<Value>1</Value>", "<Value>-1</Value>"), HEADER),
        "sequence-of-5000-digits": (payload.replace("<Value>1</Value>", f"<Value>{'1' * 5000}</Value>"), HEADER),
        "sequence-arabic": (payload.replace("<Value>1</Value>", "<Value>\u0661</Value>"), HEADER),
        "no-header": (payload[: payload.index("<Header>")] + payload[payload.index("<Payload>") :], SCHEMA),
        "header-twice": (payload.replace("<Payload>", "<Header/><Payload>"), SCHEMA),
        "no-payload": (payload[: payload.index("<Payload>")] + "</CreatedMeterReadings>", SCHEMA),
    }
    for name, (text, code) in cases.items():
        yield Forgery(f"header-{name}", "2.2 ids are read from the signed part", draft(setting, text).sealed(), (code,))


def _identities(setting: Setting) -> Iterator[Forgery]:
    neighbour, foreign = setting.neighbour_source, setting.foreign
    mixed = testing.readings_message(
        setting.source,
        "forged-mixed",
        [testing.block(channel, setting.last_end_utc, ["1"]) for channel in (setting.channel, foreign)],
        setting.now_utc_ms,
    )
    source = f">{setting.source}</Source>"
    cases = {
        "neighbours-source": (setting.payload(source=neighbour), "source-mismatch"),
        "neighbours-source-and-channel": (setting.payload(source=neighbour, channel=foreign), "source-mismatch"),
        "neighbours-channel": (setting.payload(channel=foreign), REFUSED),
        "neighbours-channel-beside-own": (messages.encode(mixed).decode(), REFUSED),
        "source-in-other-case": (setting.payload(source=setting.source.swapcase()), "source-mismatch"),
        "source-with-more": (setting.payload(source=setting.source + "0"), "source-mismatch"),
        "source-cut": (setting.payload(source=setting.source[:-1]), "source-mismatch"),
        "source-with-escape": (
            setting.payload().replace(source, f">{setting.source}&#x2F;..</Source>"),
            "source-mismatch",
        ),
    }
    for name, (payload, code) in cases.items():
        yield Forgery(
            f"identity-{name}", "2.3 device A, payload says device B", draft(setting, payload).sealed(), (code,)
        )
    by_neighbour = draft(setting, signer=setting.neighbour).sealed()
    yield Forgery(
        "identity-signed-by-neighbour", "2.3 device A, payload says device B", by_neighbour, ("source-mismatch",)
    )


NUMBERS = {
    "nan": "NaN",
    "inf": "INF",
    "minus-inf": "-INF",
    "snan": "sNaN",
    "infinity": "Infinity",
    "underscore": "1_000",
    "arabic": "\u0661\u0662\u0663",
    "full-width": "\uff11\uff12",
    "devanagari": "\u0967",
    "superscript": "1\u00b2",
    "hex": "0x10",
    "hex-float": "0x1p3",
    "comma": "1,5",
    "thousands": "1,000.5",
    "apostrophe": "1'000",
    "exponent": "1E400",
    "small-exponent": "1e3",
    "negative-exponent": "1E-3",
    "blank-inside": "1 000",
    "no-break-space": "1\u00a0000",
    "no-break-space-around": "\u00a01",
    "thin-space": "1\u2009000",
    "two-signs": "--1",
    "plus-minus": "+-1",
    "sign-behind": "1-",
    "sign-only": "-",
    "point-only": ".",
    "two-points": "1.2.3",
    "empty": "",
    "white-space": " ",
    "unicode-minus": "\u22121",
    "digits-19": "1234567890123456789",
    "digits-19-with-point": "123456789.1234567890",
    "digits-5000": "9" * 5000,
    "digits-100000": "9" * 100_000,
    "zeros-100000": "0" * 100_000 + "1",
    "word": "one",
    "true": "true",
    "percent": "5%",
    "unit": "1.5kWh",
    "zero-width-space": "1\u200b",
    "rtl-mark": "\u200f1",
    "bom": "\ufeff1",
    "newline-inside": "1\n5",
    "json-string": '"1"',
    "fraction": "1/2",
    "roman": "\u2167",
    "octal": "0o17",
    "complex": "1j",
}


def _numbers(setting: Setting) -> Iterator[Forgery]:
    payload = setting.payload()
    for name, text in NUMBERS.items():
        raw = draft(setting, payload.replace(VALUE, f"<value>{text}</value>")).sealed()
        yield Forgery(f"value-{name}", "2.5 strict xs:decimal, at most 18 digits", raw, (SCHEMA,))
    cases = {
        "left-out": "",
        "left-out-valid": f'<ReadingQualities><ReadingQualityType ref="{"1.0.0"}"/></ReadingQualities>',
        "twice": VALUE * 2,
        "with-child": "<value>1<b/>5</value>",
        "in-attribute": '<value value="1.5"/>',
    }
    for name, text in cases.items():
        raw = draft(setting, payload.replace(VALUE, text)).sealed()
        yield Forgery(f"value-{name}", "2.5 missing values", raw, (SCHEMA,))
    many = draft(setting, setting.payload(["1.5"] * 95 + ["1,5"])).sealed()
    yield Forgery("value-one-bad-of-96", "2.5 partial batch", many, (SCHEMA,))


def _times(setting: Setting) -> Iterator[Forgery]:
    payload = setting.payload()
    end = units.format_utc(setting.last_end_utc)
    day, future = end[:10], setting.last_end_utc + 900 * 2
    cases = {
        "no-zone": (end[:-1], SCHEMA),
        "hour-24": (f"{day}T24:00:00Z", SCHEMA),
        "leap-second": (f"{day}T23:59:60Z", SCHEMA),
        "year-10000": ("10000-01-01T00:00:00Z", SCHEMA),
        "year-0": ("0000-01-01T00:00:00Z", SCHEMA),
        "february-30": ("2026-02-30T00:00:00Z", SCHEMA),
        "fraction": (end[:-1] + ".5Z", SCHEMA),
        "blank-for-t": (end.replace("T", " "), SCHEMA),
        "lower-z": (end[:-1] + "z", SCHEMA),
        "empty": ("", SCHEMA),
        "number": (str(setting.last_end_utc), SCHEMA),
        "zone-of-15-hours": (end[:-1] + "+15:00", SCHEMA),
        "year-1-west": ("0001-01-01T00:00:00+14:00", SCHEMA),
        "year-9999-east": ("9999-12-31T23:45:00-14:00", SCHEMA),
        "year-9998": ("9998-12-31T23:45:00Z", "reading-in-future"),
        "before-1970": ("1969-12-31T23:45:00Z", SCHEMA),
        "1970": ("1970-01-01T00:00:00Z", REFUSED),
        "off-grid-by-a-second": (units.format_utc(setting.last_end_utc - 1), REFUSED),
        "off-grid-by-five-minutes": (units.format_utc(setting.last_end_utc - 300), REFUSED),
        "off-grid-by-zone": (end[:-1] + "+00:07", REFUSED),
        "in-the-future": (units.format_utc(future), "reading-in-future"),
        "in-the-future-by-zone": (end[:-1] + "-12:00", "reading-in-future"),
        "ten-years-ahead": (units.format_utc(setting.last_end_utc + 10 * 365 * 86400), "reading-in-future"),
    }
    for name, (text, code) in cases.items():
        raw = draft(setting, payload.replace(f"<timeStamp>{end}<", f"<timeStamp>{text}<")).sealed()
        yield Forgery(f"interval-{name}", "2.5 interval length, off-grid, zone missing; 2.4 future", raw, (code,))
    bare = draft(setting, payload.replace(f"<timeStamp>{end}</timeStamp>", "")).sealed()
    yield Forgery("interval-without-time", "2.5 interval", bare, (SCHEMA,))
    event = EndDeviceEvent("e1", "3.26.0.85", setting.now_utc_ms + 120_000)
    message = testing.events_message(setting.source, "forged-event", [event], setting.now_utc_ms)
    ahead = draft(setting, messages.encode(message).decode()).sealed()
    yield Forgery("event-in-the-future", "2.4 future", ahead, ("reading-in-future",))


def _channels(setting: Setting) -> Iterator[Forgery]:
    key = setting.channel.key

    def other(**changes: str) -> Channel:
        return testing.channel(1, key=ChannelKey(**(key._asdict() | changes)))

    cases = {
        "unknown-meter": other(meter="X9"),
        "unknown-usage-point": other(usage_point="UP-X9"),
        "unknown-stream": other(stream="Z9"),
        "no-meter": other(meter=""),
        "no-usage-point": other(usage_point=""),
        "reverse-energy": other(reading_type="0.0.2.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        "watt-hours": other(reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.0.72.0"),
        "megawatt-hours": other(reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.6.72.0"),
        "half-hours": other(reading_type="0.0.5.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        "gas": other(reading_type="0.0.2.4.1.7.12.0.0.0.0.0.0.0.0.3.72.0"),
        "meter-in-other-case": other(meter=key.meter.swapcase()),
        "meter-with-look-alike": other(meter=key.meter.replace("M", "\u041c")),
        "meter-with-path": other(meter=f"../{key.meter}"),
        "meter-with-sql": other(meter=f"{key.meter}' OR '1'='1"),
        "stream-with-zero-width": other(stream=key.stream + "\u200b"),
    }
    for name, channel in cases.items():
        raw = draft(setting, setting.payload(channel=channel)).sealed()
        yield Forgery(f"channel-{name}", "2.5 unit mismatch, unknown channel", raw, (REFUSED, SCHEMA))
    assigned = testing.block(setting.channel, setting.channel.valid_from_utc, ["1"])
    early = messages.encode(testing.readings_message(setting.source, "forged-early", [assigned], setting.now_utc_ms))
    yield Forgery(
        "channel-before-assignment", "2.3 meter not assigned then", draft(setting, early.decode()).sealed(), (REFUSED,)
    )


def _shapes(setting: Setting) -> Iterator[Forgery]:
    payload = setting.payload()
    long = "x" * 129
    meter = f"<Meter><mRID>{setting.channel.key.meter}</mRID>"
    cases = {
        "unknown-element": payload.replace(VALUE, VALUE + "<x/>"),
        "foreign-element": payload.replace(VALUE, VALUE + '<x xmlns="urn:x"/>'),
        "order-wrong": payload.replace(
            "<IntervalReadings><timeStamp>", "<IntervalReadings><value>2</value><timeStamp>"
        ),
        "text-between": payload.replace("<MeterReading>", "<MeterReading>1.5", 1),
        "namespace-missing": payload.replace(f' xmlns="{ns.METER_READINGS}"', ""),
        "namespace-of-2008": payload.replace(ns.METER_READINGS, "http://iec.ch/TC57/2008/MeterReadings#"),
        "reading-type-missing": payload.replace(
            f'<ReadingType ref="{setting.channel.key.reading_type}"></ReadingType>', ""
        ),
        "reading-type-of-5000-digits": payload.replace(".72.", f".{'9' * 5000}."),
        "reading-type-of-129-characters": payload.replace(setting.channel.key.reading_type, "9" * 129),
        "quality-of-5000-digits": payload.replace(
            VALUE, f'{VALUE}<ReadingQualities><ReadingQualityType ref="{"9" * 5000}"/></ReadingQualities>'
        ),
        "reading-type-without-ref": payload.replace(f' ref="{setting.channel.key.reading_type}"', ""),
        "meter-name-too-long": payload.replace(meter, f"<Meter><mRID>{long}</mRID>"),
        "quality-without-ref": payload.replace(
            VALUE, VALUE + "<ReadingQualities><ReadingQualityType/></ReadingQualities>"
        ),
        "payload-twice": payload.replace("</Payload>", "</Payload><Payload/>"),
        "readings-twice": payload.replace(
            "</MeterReadings></Payload>", f'</MeterReadings><MeterReadings xmlns="{ns.METER_READINGS}"/></Payload>'
        ),
        "events-in-readings": payload.replace(
            'MeterReadings xmlns="' + ns.METER_READINGS, 'EndDeviceEvents xmlns="' + ns.METER_READINGS
        ).replace("</MeterReadings></Payload>", "</EndDeviceEvents></Payload>"),
        "wide-nonsense": payload.replace("<MeterReading>", "<MeterReading>" + "<z/>" * 30_000, 1),
    }
    for name, text in cases.items():
        yield Forgery(
            f"schema-{name}", "2.3 signed content valid but schema-invalid", draft(setting, text).sealed(), (SCHEMA,)
        )
