"""How meters are set up, on the wire: MeterConfig of IEC 61968-9 with Gridpost's Channels, values <-> XML.

Floor 2. Out: elements in canonical form. In: the Body's child of a request that is admitted and schema-valid. Whether
a meter may be enrolled so is the store's to judge. A moment of 0 is an absent validFrom, None an absent validTo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import ns, units
from .asking import Asked, Option, encode_request, read_request, up_to
from .encoding import encode_header, octets, text_of
from .envelope import Element
from .errors import FileInvalid
from .findings import Findings, text_at
from .model import Channel, ChannelKey, Header, Message, ReadingType
from .requests import MOST_ASKED, ChangeMeterConfig, CreateMeterConfig, GetMeterConfig, MeterConfig, Query

NOUN = "MeterConfig"
_SPACE = ns.METER_CONFIG_MESSAGE
_M = f"{{{ns.METER_CONFIG}}}"
_C = f"{{{ns.CHANNELS}}}"
GET, CREATE, CHANGE = (ns.q(_SPACE, f"{verb}{NOUN}") for verb in ("Get", "Create", "Change"))
OPTIONS: Mapping[str, Option] = {
    "usagePoint": Option(many=True),
    "meter": Option(many=True),
    "limit": Option(up_to(MOST_ASKED)),
    "page": Option(),
}

# --- encode ----------------------------------------------------------------------------------------------------------


def encode_get(request: GetMeterConfig) -> bytes:
    """Return ``GetMeterConfig``."""
    query = request.query
    options = {"usagePoint": query.usage_points, "meter": query.meters}
    single = {"limit": str(query.limit or ""), "page": query.page}
    options |= {name: (value,) for name, value in single.items() if value}
    return encode_request(GET, request.header, Asked(options))


def encode_put(request: CreateMeterConfig | ChangeMeterConfig) -> bytes:
    """Return ``CreateMeterConfig`` or ``ChangeMeterConfig``, by the header's verb.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    name, head = f"{request.header.verb.capitalize()}{NOUN}", encode_header(request.header)
    content = encode_element(request.configs)
    return octets(f'<{name} xmlns="{_SPACE}">{head}<Payload>{content}</Payload></{name}>')


def encode_element(configs: Sequence[MeterConfig]) -> str:
    """Return a MeterConfig element in canonical form."""
    return f'<MeterConfig xmlns="{ns.METER_CONFIG}">{"".join(map(_encode_meter, configs))}</MeterConfig>'


def _encode_meter(config: MeterConfig) -> str:
    ied = f"<ied>{text_of(config.ied)}</ied>" if config.ied else ""
    inner = ied + "".join(map(_encode_channel, config.channels))
    channels = f'<Channels xmlns="{ns.CHANNELS}">{inner}</Channels>' if inner else ""
    return (
        f"<Meter><mRID>{text_of(config.meter)}</mRID>"
        f"<UsagePoint><mRID>{text_of(config.usage_point)}</mRID></UsagePoint>"
        f"{channels}</Meter>"
    )


def _encode_channel(channel: Channel) -> str:
    ends_utc = channel.valid_to_utc
    fields = {
        "readingType": channel.key.reading_type,
        "stream": channel.key.stream,
        "unit": channel.unit,
        "intervalSeconds": str(channel.interval_s),
        "zone": channel.zone,
        "validFrom": units.format_utc(channel.valid_from_utc) if channel.valid_from_utc else "",
        "validTo": "" if ends_utc is None else units.format_utc(ends_utc),
    }
    texts = "".join(f"<{name}>{text_of(text)}</{name}>" for name, text in fields.items() if text)
    return f"<Channel>{texts}</Channel>"


# --- decode ----------------------------------------------------------------------------------------------------------


def _decode_get(header: Header, element: Element) -> Message:
    asked = read_request(element, OPTIONS)
    query = Query(
        asked.texts("usagePoint"), asked.texts("meter"), page=asked.text("page"), limit=asked.number("limit")
    )  # fmt: skip
    return GetMeterConfig(header, query)


def _decode_create(header: Header, element: Element) -> Message:
    return CreateMeterConfig(header, _decode_configs(element))


def _decode_change(header: Header, element: Element) -> Message:
    return ChangeMeterConfig(header, _decode_configs(element))


def _decode_configs(message: Element) -> tuple[MeterConfig, ...]:
    payload, findings = message[1][0], Findings(message)
    configs = tuple(_decode_meter(meter, findings) for meter in payload.iterfind(f"{_M}Meter"))
    if not configs:
        findings.add(payload, "names no meter")
    findings.refuse()
    return configs


def _decode_meter(element: Element, findings: Findings) -> MeterConfig:
    meter, usage_point = text_at(element, f"{_M}mRID"), text_at(element, f"{_M}UsagePoint/{_M}mRID")
    if not meter or not usage_point:
        findings.add(element, "needs the mRIDs of meter and usage point")
    channels = element.iterfind(f"{_C}Channels/{_C}Channel")
    return MeterConfig(
        meter=meter,
        usage_point=usage_point,
        ied=text_at(element, f"{_C}Channels/{_C}ied"),
        channels=tuple(_decode_channel(channel, (usage_point, meter), findings) for channel in channels),
    )


def _decode_channel(element: Element, names: tuple[str, str], findings: Findings) -> Channel:
    def moment(name: str) -> int | None:
        found = element.find(f"{_C}{name}")
        return None if found is None else findings.tried(units.parse_utc, found)

    texts = {name: text_at(element, f"{_C}{name}") for name in ("readingType", "stream", "unit", "zone")}
    _check_type(texts["readingType"], element.find(f"{_C}readingType"), findings)
    if not texts["unit"] or not texts["zone"]:
        findings.add(element, "needs a unit and a zone")
    return Channel(
        key=ChannelKey(*names, texts["stream"], texts["readingType"]),
        unit=texts["unit"],
        interval_s=int(text_at(element, f"{_C}intervalSeconds")),
        zone=texts["zone"],
        valid_from_utc=moment("validFrom") or 0,
        valid_to_utc=moment("validTo"),
    )


def _check_type(text: str, element: Element, findings: Findings) -> None:
    try:
        ReadingType.parse(text)
    except FileInvalid as error:
        findings.add(element, error.reason)


# Class -> its encoder: lines of `messages.encode`.
ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    GetMeterConfig: encode_get,
    CreateMeterConfig: encode_put,
    ChangeMeterConfig: encode_put,
}

# QName of the Body's child -> noun, verb, decoder: lines of `messages.MESSAGES`.
REQUESTS: Mapping[str, tuple[str, str, Callable[[Header, Element], Message]]] = {
    GET: (NOUN, "get", _decode_get),
    CREATE: (NOUN, "create", _decode_create),
    CHANGE: (NOUN, "change", _decode_change),
}
