"""The contract as data: the packaged schemas compiled, the documents a bus serves, the SOAP actions.

Floor 1. In: an element of a parsed message. Out: nothing, or `SchemaInvalid` with each finding and its path. The
packaged files of ``gridpost.xsd`` and ``gridpost.wsdl`` are the only files read; a schemaLocation inside them is
resolved among them, and one inside a message is never followed. Business rules (zones, ids, grids) are `check.py`'s.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from itertools import islice
from types import MappingProxyType
from typing import Any

from lxml import etree

from . import ns
from .errors import Internal, Item, SchemaInvalid

WSDL_NAME = "metering.wsdl"  # for devices
OFFICE_WSDL_NAME = "utility.wsdl"
SUPPLIER_WSDL_NAME = "supplier.wsdl"
MAX_ITEMS = 20


def _action(group: str, local: str) -> str:
    return f"http://iec.ch/TC57/2011/{group}/{local}"  # IEC 61968-100 annex


# Body child -> SOAPAction: the operations of metering.wsdl, and so all that a device may ask.
DEVICE_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        ns.q(ns.METER_READINGS_MESSAGE, "CreatedMeterReadings"): _action("MeterReadings", "CreatedMeterReadings"),
        ns.q(ns.END_DEVICE_EVENTS_MESSAGE, "CreatedEndDeviceEvents"): (
            _action("EndDeviceEvents", "CreatedEndDeviceEvents")
        ),
        ns.q(ns.END_DEVICE_CONTROLS_MESSAGE, "GetEndDeviceControls"): (
            _action("GetEndDeviceControls", "GetEndDeviceControls")
        ),
        ns.q(ns.ENCRYPTED_READINGS, "CreatedEncryptedReadings"): f"{ns.ENCRYPTED_READINGS}/CreatedEncryptedReadings",
    }
)

# The same of utility.wsdl.
OFFICE_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        ns.q(space, local): _action(group, local)
        for space, group, local in (
            (ns.METER_READINGS_MESSAGE, "GetMeterReadings", "GetMeterReadings"),
            (ns.METER_READINGS_MESSAGE, "MeterReadings", "CreateMeterReadings"),
            (ns.METER_READINGS_MESSAGE, "MeterReadings", "CancelMeterReadings"),
            (ns.END_DEVICE_EVENTS_MESSAGE, "GetEndDeviceEvents", "GetEndDeviceEvents"),
            (ns.END_DEVICE_CONTROLS_MESSAGE, "GetEndDeviceControls", "GetEndDeviceControls"),
            (ns.END_DEVICE_CONTROLS_MESSAGE, "EndDeviceControls", "CreateEndDeviceControls"),
            (ns.END_DEVICE_CONTROLS_MESSAGE, "EndDeviceControls", "ChangeEndDeviceControls"),
            (ns.END_DEVICE_CONTROLS_MESSAGE, "EndDeviceControls", "CancelEndDeviceControls"),
            (ns.METER_CONFIG_MESSAGE, "GetMeterConfig", "GetMeterConfig"),
            (ns.METER_CONFIG_MESSAGE, "MeterConfig", "CreateMeterConfig"),
            (ns.METER_CONFIG_MESSAGE, "MeterConfig", "ChangeMeterConfig"),
        )
    }
    | {ns.q(ns.MAILBOX, local): f"{ns.MAILBOX}/{local}" for local in ("PeekMailbox", "DequeueMailbox")}
    | {ns.q(ns.COMPLETENESS, "GetCompleteness"): f"{ns.COMPLETENESS}/GetCompleteness"}
)

# The same of supplier.wsdl.
SUPPLIER_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        ns.q(ns.SUPPLY, local): f"{ns.SUPPLY}/{local}"
        for local in (
            "CreateTariff",
            "ChangeTariff",
            "GetTariff",
            "CreateContract",
            "ChangeContract",
            "GetContract",
            "GetTariffComparison",
        )
    }
    | {name: OFFICE_ACTIONS[name] for name in (ns.q(ns.METER_READINGS_MESSAGE, "GetMeterReadings"),)}
)
PARTNER_ACTIONS: Mapping[str, str] = MappingProxyType({**OFFICE_ACTIONS, **SUPPLIER_ACTIONS})  # all a partner may ask

# Namespace -> the prefix that paths and reasons show, whatever the sender's own prefixes are.
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        ns.MESSAGE: "msg",
        ns.METER_READINGS: "m",
        ns.METER_READINGS_MESSAGE: "mrm",
        ns.END_DEVICE_EVENTS: "e",
        ns.END_DEVICE_EVENTS_MESSAGE: "edem",
        ns.END_DEVICE_CONTROLS: "d",
        ns.END_DEVICE_CONTROLS_MESSAGE: "edcm",
        ns.CONTROL: "c",
        ns.METER_CONFIG: "mc",
        ns.METER_CONFIG_MESSAGE: "mcm",
        ns.CHANNELS: "ch",
        ns.MAILBOX: "mb",
        ns.DOCUMENT: "doc",
        ns.RECEIPT: "r",
        ns.REFUSAL: "f",
        ns.TREE_HEAD: "t",
        ns.TARIFF: "tf",
        ns.SUPPLY: "sp",
        ns.COMPLETENESS: "cp",
        ns.ENCRYPTED_READINGS: "er",
        ns.XENC: "xenc",
        ns.DS: "ds",
        ns.SOAP11: "soap",
    }
)

# Namespace -> file, the roots first: what the driver schema imports and where a schema for a namespace is found.
FILES: Mapping[str, str] = MappingProxyType(
    {
        ns.METER_READINGS_MESSAGE: "meter_readings_message.xsd",
        ns.END_DEVICE_EVENTS_MESSAGE: "end_device_events_message.xsd",
        ns.END_DEVICE_CONTROLS_MESSAGE: "end_device_controls_message.xsd",
        ns.METER_CONFIG_MESSAGE: "meter_config_message.xsd",
        ns.MAILBOX: "mailbox.xsd",
        ns.DOCUMENT: "documents.xsd",
        ns.SUPPLY: "supply.xsd",
        ns.COMPLETENESS: "completeness.xsd",
        ns.MESSAGE: "message.xsd",
        ns.METER_READINGS: "meter_readings.xsd",
        ns.END_DEVICE_EVENTS: "end_device_events.xsd",
        ns.END_DEVICE_CONTROLS: "end_device_controls.xsd",
        ns.CONTROL: "control.xsd",
        ns.METER_CONFIG: "meter_config.xsd",
        ns.CHANNELS: "channels.xsd",
        ns.RECEIPT: "receipt.xsd",
        ns.REFUSAL: "refusal.xsd",
        ns.TREE_HEAD: "tree_head.xsd",
        ns.TARIFF: "tariff.xsd",
        ns.ENCRYPTED_READINGS: "encrypted_readings.xsd",
    }
)

_BASE_URL = "gridpost:/"  # no scheme that anything could fetch
_CLARK = re.compile(r"\{((?:http|urn):[^{}\s']*)\}")  # a set of allowed values stands in braces too
_STEP = re.compile(r"(?:([^:\[\]]+):)?([^:\[\]]+)(?:\[(\d+)\])?\Z")
_TYPE_ERROR = re.compile(r"is not a valid value of the \w+ type")
_MAX_REASON = 400
_TRIES = 20  # of a compilation; each is disturbed once in a thousand under load
# lxml works out a path per error by counting preceding siblings: one hostile message of 70,000 wrong siblings would
# cost 20 s, one of 64,000 wrong attributes 0.8 s. So a tree with a long row of siblings, or with attributes by the
# thousand, is first validated as a stream, some 2 us an element.
_WIDE = 1000
_MANY_ERRORS = 100
_per_thread = threading.local()
_compiling = threading.Lock()  # lxml finds imports through a loader of the whole process while it compiles


@lru_cache(maxsize=1)
def documents() -> Mapping[str, bytes]:
    """Return file name -> bytes of the WSDLs and every schema, as served beside each other.

    The one ``soap:address`` of a WSDL is a placeholder: ``http://localhost/metering``, ``/utility``, ``/supplier``.
    """
    wsdls = (WSDL_NAME, OFFICE_WSDL_NAME, SUPPLIER_WSDL_NAME)
    names = dict.fromkeys(wsdls, "gridpost.wsdl") | dict.fromkeys(FILES.values(), "gridpost.xsd")
    return MappingProxyType({name: (resources.files(package) / name).read_bytes() for name, package in names.items()})


def load() -> etree.XMLSchema:
    """Return the schema of all our namespaces, compiled once per thread.

    An lxml XMLSchema may validate in any thread, but its error log is the last caller's: so each thread has its own.
    """
    schema = getattr(_per_thread, "schema", None)
    if schema is None:
        with _compiling:
            schema = _per_thread.schema = _compile()
    return schema


def validate(element: Any) -> None:
    """Hold an element and all below it to its schema; its ancestors do not matter.

    Args:
        element: the one child of a Body, a bare MeterReadings document, a Receipt: any global element of ours.

    Raises:
        SchemaInvalid: with up to 20 items (code ``schema-invalid``, reason, path from `element` down).
    """
    if _is_wide(element):
        if _is_littered(element):
            reason = f"{_WIDE} attributes or more that no schema here knows"
            raise _refusal([Item(SchemaInvalid.code, reason, path_of(element, element))])
        messages = _stream(element)
        if len(messages) > _MANY_ERRORS:
            whole = path_of(element, element)
            raise _refusal([Item(SchemaInvalid.code, _plain(text), whole) for text in messages[:MAX_ITEMS]])
    schema = load()
    if not schema.validate(element):
        raise _refusal(list(islice(_items(element, schema.error_log), MAX_ITEMS)))


def path_of(element: Any, top: Any = None) -> str:
    """Return where `element` stands, such as ``/m:MeterReadings[1]/m:MeterReading[2]``, from `top` (default: the root).

    `top` is the first step. Prefixes are those of `PREFIXES`; a foreign namespace shows as ``*``.
    """
    steps: list[str] = []
    node = element
    while node is not None:
        before = sum(1 for _ in node.itersiblings(node.tag, preceding=True)) if node is not top else 0
        steps.append(f"{_prefixed(node.tag)}[{before + 1}]")
        node = None if node is top else node.getparent()
    return "/" + "/".join(reversed(steps))


def _compile() -> etree.XMLSchema:
    """Compile until every file was asked for.

    A parse in another thread that began before and ends meanwhile puts libxml2's own loader back, which finds none of
    our imports: the compilation then fails, or yields a schema that lacks namespaces and would refuse what is right.
    """
    for _ in range(_TRIES):
        files = _PackageFiles()
        try:
            schema = _compile_with(files)
        except etree.XMLSchemaParseError:
            continue
        if files.found == set(FILES.values()):
            return schema
    raise Internal(detail="the packaged schemas do not compile")


def _compile_with(files: _PackageFiles) -> etree.XMLSchema:
    imports = "".join(f'<xs:import namespace="{uri}" schemaLocation="{name}"/>' for uri, name in FILES.items())
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False)
    parser.resolvers.add(files)
    driver = f'<xs:schema xmlns:xs="{ns.XSD}">{imports}</xs:schema>'.encode()
    return etree.XMLSchema(etree.fromstring(driver, parser, base_url=_BASE_URL))


_is_wide = etree.XPath(f"descendant-or-self::*/*[{_WIDE}] or count(descendant-or-self::*/@*) >= {_WIDE}")
# `ref` is the one attribute our schemas have. Each other one is an error to be worded: 97,000 took 0.2 s.
_is_littered = etree.XPath(f"count(descendant-or-self::*/@*[local-name() != 'ref']) >= {_WIDE}")


class _NoTree:
    """A parser's target that keeps nothing: a second tree would double what a hostile message costs."""

    def close(self) -> None:
        """Nothing was kept."""


def _stream(element: Any) -> list[str]:
    """Return what is wrong, in words, without a path. Nothing is valid by this: `validate` still asks of the tree."""
    parser = etree.XMLParser(
        schema=load(), target=_NoTree(), no_network=True, resolve_entities=False, load_dtd=False
    )  # fmt: skip
    failure = []
    try:
        etree.fromstring(etree.tostring(element, with_tail=False), parser)
    except etree.XMLSyntaxError as error:
        failure = [str(error)]
    return [entry.message for entry in parser.error_log] or failure


def _refusal(items: list[Item]) -> SchemaInvalid:
    return SchemaInvalid(f"{items[0].reason} (at {items[0].path})", items=items)


class _PackageFiles(etree.Resolver):  # type: ignore[misc]
    """Finds a schemaLocation among the packaged files, by its last segment, and nowhere else; notes what it found."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def resolve(self, system_url: str, public_id: str | None, context: Any) -> Any:
        name = system_url.rsplit("/", 1)[-1]
        content = documents().get(name)
        if content is None:
            raise FileNotFoundError(f"{system_url!r} is not one of the packaged schemas")
        self.found.add(name)
        return self.resolve_string(content, context, base_url=_BASE_URL + name)


def _items(top: Any, log: Any) -> Iterator[Item]:
    # libxml2 reports a bad simple value twice: the facet it breaks, which says more, then the type.
    seen: set[str | None] = set()
    for entry in log:
        if entry.path not in seen or not _TYPE_ERROR.search(entry.message):
            yield Item(SchemaInvalid.code, _plain(entry.message), path_of(_at(top, entry.path), top))
        seen.add(entry.path)


def _plain(message: str) -> str:
    short = _CLARK.sub(lambda match: f"{PREFIXES.get(match[1], '*')}:", " ".join(message.split()))
    return short if len(short) <= _MAX_REASON else short[:_MAX_REASON] + "..."


def _prefixed(tag: str) -> str:
    namespace, _, local = tag.removeprefix("{").rpartition("}")
    return f"{PREFIXES.get(namespace, '*')}:{local}" if namespace else local


def _at(top: Any, path: str | None) -> Any:
    """Return the element libxml2's path names below `top`; the nearest one found when a step is of another kind."""
    node = top
    for step in (path or "").split("/")[2:]:
        match = _STEP.match(step)
        found = _step(node, match) if match else None
        if found is None:
            return node
        node = found
    return node


def _step(node: Any, match: re.Match[str]) -> Any:
    """Return the child that a step names, None when there is no such. One after the other: a list of all is dear."""
    before = int(match[3] or 1) - 1
    return next(islice(filter(lambda child: _is_step(child, match), node), before, None), None) if before >= 0 else None


def _is_step(child: Any, match: re.Match[str]) -> bool:
    # xmlGetNodePath: an element in a default namespace is "*" and counted among all elements, another by its prefix.
    if not isinstance(child.tag, str):
        return False
    return match[2] == "*" or (child.prefix == match[1] and etree.QName(child).localname == match[2])
