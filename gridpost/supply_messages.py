"""What suppliers and their customers ask and are told, on the wire: tariffs, contracts, comparisons; values <-> XML.

Floor 2. Out: the Body's child in exclusive canonical form, UTF-8. In (`messages.MESSAGES` calls the decoders): the
Body's child of a request that is admitted and schema-valid. The tariff itself is `tariff_messages.py`'s. Whether a
contract may be made is not judged here; the answer to a comparison is `comparison_messages.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from . import documents, ns, tariff_messages, units
from .answers import encode_reply
from .asking import Asked, Option, encode_request, read_request, up_to
from .documents import Document
from .encoding import encode_header, octets, text_of
from .envelope import Element
from .findings import Findings, printable, text_at
from .model import Header, Message
from .office_messages import DATA_VERSION, paged, parse_version
from .requests import MOST_ASKED
from .supply import (
    ENDED,
    REJECTED,
    REQUESTED,
    ChangeContract,
    ChangeTariff,
    Compared,
    CreateContract,
    CreatedContract,
    CreateTariff,
    Decision,
    GetContract,
    GetTariff,
    GetTariffComparison,
    Offer,
    Sought,
    Supply,
)
from .tariff import Tariff

TARIFF, CONTRACT, COMPARISON = "Tariff", "Contract", "TariffComparison"
_SPACE = ns.SUPPLY
_S = f"{{{_SPACE}}}"
_MANY = Option(printable, many=True)
_PAGED = {"page": Option(), "limit": Option(up_to(MOST_ASKED))}
GET_TARIFF, CREATE_TARIFF, CHANGE_TARIFF = (ns.q(_SPACE, f"{verb}Tariff") for verb in ("Get", "Create", "Change"))
GET_CONTRACT, CREATE_CONTRACT, CHANGE_CONTRACT = (
    ns.q(_SPACE, f"{verb}Contract") for verb in ("Get", "Create", "Change")
)
GET_COMPARISON = ns.q(_SPACE, "GetTariffComparison")


def offer(text: str) -> Offer:
    """Return the tariffs that ``supplier/id+supplier/id`` names.

    Raises:
        ValueError: it is not of that form.
    """
    pairs = [tuple(map(str.strip, part.split("/", 1))) for part in text.split("+")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError("is not supplier/tariff, or several joined by +")
    return Offer(tuple((pair[0], pair[1]) for pair in pairs))


def _cycle_day(text: str) -> int:
    day = up_to(31)(text)
    if not day:
        raise ValueError("must be 1 to 31")
    return day


OPTIONS: Mapping[str, Mapping[str, Option]] = {
    GET_TARIFF: {"supplier": _MANY, **_PAGED},
    GET_CONTRACT: {"supplier": _MANY, "usagePoint": _MANY, **_PAGED},
    GET_COMPARISON: {
        "usagePoint": Option(printable, needed=True),
        "bid": Option(offer, many=True),
        "present": Option(offer),
        "switchingCost": Option(units.decimal_text),
        "zone": Option(printable),
        "cycleDay": Option(_cycle_day),
        DATA_VERSION: Option(parse_version),
    },
}

# --- requests, encoded -----------------------------------------------------------------------------------------------


def _encode_put(request: CreateTariff | ChangeTariff | CreateContract | ChangeContract | CreatedContract) -> bytes:
    match request:
        case CreateTariff() | ChangeTariff():
            content = tariff_messages.encode(request.tariff)
        case CreateContract():
            content = _encode_contract(request.contract)
        case ChangeContract():
            content = _encode_decision(request.decision)
        case CreatedContract():
            content = _encode_contracts(request.contracts)
    name, head = type(request).__name__, encode_header(request.header)
    return octets(f'<{name} xmlns="{_SPACE}">{head}<Payload>{content}</Payload></{name}>')


def _encode_sought(request: GetTariff | GetContract) -> bytes:
    sought, name = request.sought, GET_TARIFF if isinstance(request, GetTariff) else GET_CONTRACT
    many = {"supplier": sought.suppliers, "usagePoint": sought.usage_points}
    single = {"page": sought.page, "limit": str(sought.limit or "")}
    options = {**many, **{option: (value,) for option, value in single.items() if value}}
    taken = {option: values for option, values in options.items() if option in OPTIONS[name]}
    return encode_request(name, request.header, Asked(taken, sought.ids))


def _encode_compared(request: GetTariffComparison) -> bytes:
    asked = request.compared
    single = {
        "usagePoint": asked.usage_point,
        "present": asked.present.name if asked.present else "",
        "switchingCost": f"{asked.switching_cost:f}" if asked.switching_cost else "",
        "zone": asked.zone,
        "cycleDay": str(asked.cycle_day) if asked.cycle_day != 1 else "",
        DATA_VERSION: asked.at,
    }
    stated = {option: (value,) for option, value in single.items() if value}
    options = {**stated, "bid": tuple(one.name for one in asked.bids)}
    return encode_request(GET_COMPARISON, request.header, Asked(options, (), asked.from_utc, asked.to_utc))


def _fields(name: str, fields: Mapping[str, str]) -> str:
    return f"<{name}>{''.join(f'<{key}>{text_of(text)}</{key}>' for key, text in fields.items() if text)}</{name}>"


def _moment(moment_utc: int | None) -> str:
    return "" if moment_utc is None else units.format_utc(moment_utc)


def _encode_contract(one: Supply) -> str:
    fields = {
        "mRID": one.id,
        "customer": one.customer,
        "usagePoint": one.usage_point,
        "supplier": one.supplier,
        "tariff": one.tariff,
        "kind": one.kind,
        "startDate": _moment(one.from_utc),
        "endDate": _moment(one.to_utc),
        "cycleDay": str(one.cycle_day),
        "status": one.status,
        "reason": one.reason,
    }
    return _fields("Contract", fields)


def _encode_decision(one: Decision) -> str:
    fields = {
        "mRID": one.id,
        "supplier": one.supplier,
        "status": one.status,
        "reason": one.reason,
        "startDate": _moment(one.from_utc or None),
        "endDate": _moment(one.to_utc),
    }
    return _fields("ContractDecision", fields)


def _encode_contracts(contracts: Sequence[Supply]) -> str:
    return f"<Contracts>{''.join(map(_encode_contract, contracts))}</Contracts>"


# --- answers, encoded ------------------------------------------------------------------------------------------------


def encode_tariffs_reply(reply_header: Header, documents: Sequence[str], page: str = "") -> bytes:
    """Return ``TariffResponseMessage``.

    Args:
        reply_header: from `office_messages.reply_to`.
        documents: as `tariff_messages.encode` wrote them, put in as they are.
        page: for the Property ``nextPage``; empty: this is the last.
    """
    return encode_reply(paged(reply_header, page), f"<Tariffs>{''.join(documents)}</Tariffs>")


def encode_contracts_reply(reply_header: Header, contracts: Sequence[Supply], page: str = "") -> bytes:
    """Return ``ContractResponseMessage``; page as `encode_tariffs_reply`.

    Raises:
        CannotRepresent: a text holds a character that XML cannot.
    """
    return encode_reply(paged(reply_header, page), _encode_contracts(contracts))


# --- requests, decoded -----------------------------------------------------------------------------------------------


def _decode_tariff(kind: type[CreateTariff | ChangeTariff]) -> Callable[[Header, Element], Message]:
    return lambda header, element: kind(header, tariff_messages.decode_element(element[1][0]))


def _decode_sought(kind: type[GetTariff | GetContract]) -> Callable[[Header, Element], Message]:
    def decode(header: Header, element: Element) -> Message:
        asked = read_request(element, OPTIONS[element.tag])
        names = (asked.ids, asked.texts("supplier"), asked.texts("usagePoint"))
        return kind(header, Sought(*names, asked.number("limit"), asked.text("page")))

    return decode


def _decode_create_contract(header: Header, element: Element) -> Message:
    contract, findings = element[1][0], Findings(element)
    decoded = Supply(
        id=text_at(contract, f"{_S}mRID"),
        customer=text_at(contract, f"{_S}customer"),
        usage_point=text_at(contract, f"{_S}usagePoint"),
        tariff=text_at(contract, f"{_S}tariff"),
        from_utc=_decode_moment(contract, "startDate", findings) or 0,
        to_utc=_decode_moment(contract, "endDate", findings),
        cycle_day=int(text_at(contract, f"{_S}cycleDay") or 1),
    )
    if decoded.to_utc is not None and decoded.to_utc <= decoded.from_utc:
        findings.add(contract.find(f"{_S}endDate"), "the contract ends before it begins")
    findings.refuse()
    return CreateContract(header, decoded)


def _decode_change_contract(header: Header, element: Element) -> Message:
    content, findings = element[1][0], Findings(element)
    decision = Decision(
        id=text_at(content, f"{_S}mRID"),
        supplier=text_at(content, f"{_S}supplier"),
        status=text_at(content, f"{_S}status"),
        reason=text_at(content, f"{_S}reason"),
        from_utc=_decode_moment(content, "startDate", findings) or 0,
        to_utc=_decode_moment(content, "endDate", findings),
    )
    lacks = {
        REQUESTED: "is no decision",
        REJECTED: "" if decision.reason else "needs a reason",
        ENDED: "" if decision.to_utc is not None else "needs an endDate",
    }
    if lacks.get(decision.status):
        findings.add(content.find(f"{_S}status"), f"{decision.status} {lacks[decision.status]}")
    findings.refuse()
    return ChangeContract(header, decision)


def _decode_moment(parent: Element, name: str, findings: Findings) -> int | None:
    element = parent.find(_S + name)
    return None if element is None else findings.tried(units.parse_utc, element)


def _decode_compared(header: Header, element: Element) -> Message:
    asked, findings = read_request(element, OPTIONS[GET_COMPARISON]), Findings(element)
    if not 0 < asked.from_utc < asked.to_utc:
        findings.add(element[-1], "needs a StartTime and an EndTime behind it")
    findings.refuse()
    present = asked.text("present")
    compared = Compared(
        usage_point=asked.text("usagePoint"),
        from_utc=asked.from_utc,
        to_utc=asked.to_utc,
        bids=tuple(map(offer, asked.texts("bid"))),
        present=offer(present) if present else None,
        switching_cost=Decimal(asked.text("switchingCost") or 0),
        zone=asked.text("zone"),
        cycle_day=asked.number("cycleDay") or 1,
        at=asked.text(DATA_VERSION),
    )
    return GetTariffComparison(header, compared)


# --- what becomes of them --------------------------------------------------------------------------------------------


def documents_of(message: Message) -> tuple[Document, ...]:
    """Return the documents that a message brings into the log: its tariff; none of any other message.

    Whoever keeps the message and whoever checks years later that what is kept is what was said ask here.
    """
    if not isinstance(message, CreateTariff | ChangeTariff):
        return ()
    return (tariff_document(message.tariff),)


def tariff_document(tariff: Tariff) -> Document:
    """Return a tariff as a document of its supplier's.

    Raises:
        TariffRefused, CannotRepresent: see `tariff_messages.encode`.
    """
    dates = (tariff.valid_from_utc, tariff.valid_to_utc)
    return Document(documents.TARIFF, tariff.id, tariff.supplier, "", *dates, tariff_messages.encode(tariff))


# Class -> its encoder: lines of `messages.encode`.
ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    **dict.fromkeys((CreateTariff, ChangeTariff, CreateContract, ChangeContract, CreatedContract), _encode_put),
    **dict.fromkeys((GetTariff, GetContract), _encode_sought),
    GetTariffComparison: _encode_compared,
}

# QName of the Body's child -> noun, verb, decoder: lines of `messages.MESSAGES`.
REQUESTS: Mapping[str, tuple[str, str, Callable[[Header, Element], Message]]] = {
    CREATE_TARIFF: (TARIFF, "create", _decode_tariff(CreateTariff)),
    CHANGE_TARIFF: (TARIFF, "change", _decode_tariff(ChangeTariff)),
    GET_TARIFF: (TARIFF, "get", _decode_sought(GetTariff)),
    CREATE_CONTRACT: (CONTRACT, "create", _decode_create_contract),
    CHANGE_CONTRACT: (CONTRACT, "change", _decode_change_contract),
    GET_CONTRACT: (CONTRACT, "get", _decode_sought(GetContract)),
    GET_COMPARISON: (COMPARISON, "get", _decode_compared),
}
