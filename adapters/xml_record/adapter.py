"""The XML record adapter: `billingInformation` in tags, as `gridpost.ports.Adapter` has it.

In: bytes, or readings, with the options. Out: `Parsed`, `Rendered`. Tags are known by their name in any order and any
namespace; one that is not known is passed over with a warning, so that senders may say more than we know of.

No document type is read, so no entity is expanded. What the record means is in `..usage_record`.
"""

from __future__ import annotations

from collections import Counter
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from gridpost import units
from gridpost.encoding import octets, text_of
from gridpost.errors import FileInvalid, Item
from gridpost.model import Readings
from gridpost.ports import FormatOptions, Parsed, Rendered

from ..usage_record import DAY, MONTH, UsageRecord, from_readings, to_parsed

RECORD, RECORDS = "billingInformation", "billingInformationList"
_LOCATION, _DEVICE_TYPE, _TIME = "location", "deviceType", "time"
_KNOWN = (MONTH, DAY, _LOCATION, _DEVICE_TYPE, _TIME)


class _Plain(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise FileInvalid("the file has a document type, which a record has not")


class XmlRecordAdapter:
    """A billingInformation element a meter: kWhMonth, kWhDay, location, deviceType, time."""

    name = "xml_record"
    suffix = "xml"

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file; `options.to_utc` is the moment of records that state none.

        Raises:
            FileInvalid: no XML, another root, or a record that cannot be used.
        """
        root = _root(raw)
        elements = [root] if _local(root) == RECORD else [one for one in root if _local(one) == RECORD]
        if _local(root) not in (RECORD, RECORDS) or not elements:
            raise FileInvalid(f"the document's root is {root.tag[:200]}, not {RECORD} or a {RECORDS} of some")
        unknown: Counter[str] = Counter(_local(one) for one in root if root not in elements and one not in elements)
        records = [_record(f"{RECORD} {number}", one, unknown) for number, one in enumerate(elements, 1)]
        notes = [Item("unknown-tag", f"{count} of {name[:80]} passed over") for name, count in unknown.items()]
        return to_parsed(records, options, notes)

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write a record a meter; the same arguments give the same bytes.

        Raises:
            CannotRepresent: no energy used to write, or a name XML cannot hold.
        """
        records, losses = from_readings(readings, options)
        text = "".join(_written(record) for record in records)
        whole = text if len(records) == 1 else f"<{RECORDS}>\n{text}</{RECORDS}>\n"
        return Rendered(b'<?xml version="1.0" encoding="UTF-8"?>\n' + octets(whole), tuple(losses))


def _root(raw: bytes) -> Element:
    parser = XMLParser(target=_Plain())
    try:
        parser.feed(raw)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        what = "the file is empty" if not raw.strip(b"\xef\xbb\xbf \r\n\t") else f"no whole XML document: {error}"
        raise FileInvalid(what) from error
    return root


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _record(place: str, element: Element, unknown: Counter[str]) -> UsageRecord:
    found: dict[str, str] = {}
    for child in element:
        name = _local(child)
        if name not in _KNOWN:
            unknown[name] += 1
        elif name in found:
            raise _invalid(place, f"{name} stands there twice")
        else:
            found[name] = "".join(child.itertext()).strip()
    month, day, location, device_type, time = (found.get(name, "") for name in _KNOWN)
    return UsageRecord(month, day, location, device_type, _moment(place, time), place)


def _moment(place: str, text: str) -> int | None:
    try:
        return units.parse_utc(text) if text else None
    except ValueError as error:
        raise _invalid(place, f"time {text[:40]!r} is {error}") from error


def _invalid(place: str, reason: str) -> FileInvalid:
    return FileInvalid(f"{place}: {reason}", items=[Item(FileInvalid.code, reason, place)])


def _written(record: UsageRecord) -> str:
    time = "" if record.time_utc is None else units.format_utc(record.time_utc)
    texts = zip(_KNOWN, (record.month, record.day, record.location, record.device_type, time), strict=True)
    inside = "".join(f"  <{name}>{text_of(text)}</{name}>\n" for name, text in texts if text)
    return f"<{RECORD}>\n{inside}</{RECORD}>\n"
