"""``gridpost validate FILE...``: is this what the bus, or `convert`, would take, and if not, where and why not.

In: files. Out: for each finding file, line, path, reason and hint, on standard output; exit status 0 when all are
valid, 1 when one is not, 2 for usage. Needs no bus and no network; starts without Twisted and Spyne. The verdict on XML
is that of `gridpost.schemas` and `gridpost.messages`, the same as on the bus; xmlschema, whose only home this is, says
where and why in more words. What only a bus knows (channels, grids, ids used) is not judged.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from functools import lru_cache
from importlib import resources
from itertools import islice
from pathlib import Path

import click
import xmlschema
from rich.console import Console
from rich.progress import Progress

from gridpost import messages, ns, schemas, tabular, tariff_messages
from gridpost.envelope import DEVICE_LIMITS, Element, Envelope, parse, shape
from gridpost.errors import ConfigInvalid, EnvelopeShape, FileInvalid, GridpostError, Item, SchemaInvalid
from gridpost.ports import FormatOptions
from gridpost.unsigned import shape_office

from .. import independent, tariff_files
from ..installed import adapter
from . import validate_hints

MAX_FINDINGS = 100  # a file
_SHOW_PROGRESS_FROM = 2 << 20  # bytes in all: below that it is done before a bar is drawn
_FAULT = ns.q(ns.SOAP11, "Fault")
# Messages in namespaces of our own; supply.xsd brings tariff.xsd along.
_OWN_MESSAGES = ("mailbox.xsd", "encrypted_readings.xsd", "supply.xsd", "completeness.xsd")
_PREFIX_MAP = {prefix: uri for uri, prefix in schemas.PREFIXES.items()}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong; `line` is 0 and `path` empty where it concerns the whole file."""

    file: str
    line: int
    path: str
    code: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file is, and what is wrong with it."""

    file: str
    kind: str
    findings: tuple[Finding, ...]


@click.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--signature", is_flag=True, help="Also verify each message's signature, with signxml. Needs --trust.")
@click.option(
    "--trust", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CA certificate(s), PEM, to trust."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
def command(files: tuple[Path, ...], signature: bool, trust: Path | None, as_json: bool) -> None:
    """Check SOAP messages and answers, MeterReadings documents, receipts, files of readings and tariffs.

    Files of readings: CSV, NEM12, NEM13, MDEF, CMEP, Green Button, the CSV line and XML record of kWh this month.
    Also tariffs, OpenEI URDB or xsd/tariff.xsd: can they be billed?

    Exit status: 0 all valid, 1 something invalid, 2 wrong usage.
    """
    if signature != (trust is not None):
        raise click.UsageError("--signature and --trust CA.pem belong together")
    ca_pem = _read_trust(trust) if trust else None
    verdicts = [examine(str(path), path.read_bytes(), ca_pem) for path in _with_progress(files)]
    if as_json:
        click.echo(json.dumps(_as_json(verdicts), indent=2))
    else:
        _print(verdicts)
    sys.exit(any(verdict.findings for verdict in verdicts))


def _read_trust(path: Path) -> bytes:
    ca_pem = path.read_bytes()
    try:
        independent.authorities(ca_pem)
    except ConfigInvalid as error:
        raise click.BadParameter(f"{path}: {error.reason}", param_hint="--trust") from None
    return ca_pem


def examine(name: str, raw: bytes, ca_pem: bytes | None = None) -> Verdict:
    """Judge one file.

    Args:
        name: shown with the findings; its suffix helps to tell formats that are not XML.
        raw: the content.
        ca_pem: when given, the signature is verified as well, and a file without one is invalid.
    """
    try:
        kind, findings = _examine_other(name, raw) if ca_pem is None else ("", None)
        if findings is None:
            kind, findings = _examine_xml(name, raw, ca_pem)
    except GridpostError as error:
        kind, findings = "unreadable", iter(_of_error(name, error, None))
    return Verdict(name, kind, tuple(islice(findings, MAX_FINDINGS)))


# --- XML -------------------------------------------------------------------------------------------------------------


def _examine_xml(name: str, raw: bytes, ca_pem: bytes | None) -> tuple[str, Iterator[Finding]]:
    limits = DEVICE_LIMITS.raised(len(raw))
    root = parse(raw, limits)
    is_message = root.tag == ns.q(ns.SOAP11, "Envelope")
    target = _child_of_body(root) if is_message else root
    signed = is_message and _is_signed(raw, root, target.tag in schemas.PARTNER_ACTIONS)
    kind = schemas.path_of(target, target).strip("/").removesuffix("[1]")
    return kind + _seal_state(is_message, signed, ca_pem is not None), _findings(name, raw, target, ca_pem)


def _is_signed(raw: bytes, root: Element, may_be_unsigned: bool) -> bool:
    """Hold an envelope against its shape, where it has one, and tell whether it bears a signature."""
    limits = DEVICE_LIMITS.raised(len(raw))
    if may_be_unsigned:  # an office may prove itself by its connection or by a UsernameToken
        return isinstance(shape_office(raw, limits), Envelope)
    if root.find(f".//{ns.q(ns.WSSE, 'Security')}") is None:
        return False
    shape(raw, limits)
    return True


def _seal_state(is_message: bool, signed: bool, verified: bool) -> str:
    if not is_message:
        return ""
    if not signed:
        return ", not signed"
    return ", signature verified" if verified else ", signature not checked"


def _findings(name: str, raw: bytes, target: Element, ca_pem: bytes | None) -> Iterator[Finding]:
    for part in _parts(target):
        wrong = list(_diagnose(name, part))
        yield from wrong or _read(name, part)
    if ca_pem is not None:
        try:
            independent.verify_signature(raw, ca_pem)
        except GridpostError as error:
            yield from _of_error(name, error, None)


def _child_of_body(root: Element) -> Element:
    bodies = root.findall(ns.q(ns.SOAP11, "Body"))
    if len(bodies) != 1 or len(bodies[0]) != 1:
        raise EnvelopeShape(f"{len(bodies)} Body elements; there must be one, with one child")
    return bodies[0][0]


def _parts(target: Element) -> Sequence[Element]:
    """Return what a schema of ours describes: the element itself; for a fault, what its detail holds of ours."""
    if target.tag != _FAULT:
        return [target]
    return [child for child in target.iterfind("detail/*") if child.tag[1:].partition("}")[0] in schemas.FILES]


def _diagnose(name: str, part: Element) -> Iterator[Finding]:
    """Yield what xmlschema says of a part that libxml2, the bus's engine, refuses; if nothing, libxml2's words."""
    try:
        schemas.validate(part)
    except SchemaInvalid as refused:
        tree = xmlschema.XMLResource(part, allow="none")
        errors = _xmlschema().iter_errors(tree, use_location_hints=False)
        worded = [_of_xmlschema(name, part, error) for error in islice(errors, MAX_FINDINGS)]
        yield from worded or _of_error(name, refused, part)


@lru_cache(maxsize=1)
def _xmlschema() -> xmlschema.XMLSchema:
    folder = Path(str(resources.files("gridpost.xsd")))
    roots = [folder / file for file in schemas.FILES.values() if file.endswith("_message.xsd") or file in _OWN_MESSAGES]
    first = xmlschema.XMLSchema(str(roots[0]), allow="sandbox", build=False)
    for path in roots[1:]:
        first.add_schema(str(path))
    first.build()
    return first


def _of_xmlschema(name: str, part: Element, error: xmlschema.XMLSchemaValidationError) -> Finding:
    element: Element = error.elem if error.elem is not None else part
    reason = " ".join(str(error.reason or error.message).split())
    return Finding(
        name,
        element.sourceline or 0,
        schemas.path_of(element, part),
        SchemaInvalid.code,
        validate_hints.shortened(reason),
        validate_hints.hint(element, reason),
    )


def _read(name: str, part: Element) -> Iterator[Finding]:
    """Yield what the reader of a schema-valid part refuses: times without a zone, a header without a MessageID."""
    try:
        if part.tag in messages.MESSAGES:
            messages.decode(part)
        elif part.tag == ns.q(ns.METER_READINGS, "MeterReadings"):
            messages.decode_readings(part)
        elif part.tag == ns.q(ns.TARIFF, "Tariff"):
            tariff_messages.decode_element(part)
    except GridpostError as error:
        yield from _of_error(name, error, part)


def _of_error(name: str, error: GridpostError, part: Element | None) -> Iterator[Finding]:
    whole = Item(error.code, f"{error.reason} ({error.detail})" if error.detail else error.reason)
    for item in error.items or [whole]:
        element = validate_hints.located(part, item.path, _PREFIX_MAP) if part is not None else None
        line = element.sourceline if element is not None else validate_hints.line_in(item.path or item.reason)
        hint = validate_hints.hint(element, item.reason)
        yield Finding(name, line or 0, item.path, item.code, item.reason, hint or validate_hints.remedy(type(error)))


# --- other formats ---------------------------------------------------------------------------------------------------


def _examine_other(name: str, raw: bytes) -> tuple[str, Iterator[Finding] | None]:
    """Judge a file that is none of the contract's documents; no findings at all for one that may be."""
    if raw.startswith(_UTF_16):
        raise FileInvalid("the file is UTF-16; write it as UTF-8 or, where the format says so, as ASCII")
    plain = raw.removeprefix(b"\xef\xbb\xbf")
    for kind, is_one, read in _OTHERS:
        if is_one(name.lower(), plain):
            return kind, _refused(name, raw, read)
    if plain.lstrip(_WHITE).startswith(b"<"):
        return "", None
    raise FileInvalid(f"neither XML nor a file of a known format: {', '.join(kind for kind, _, _ in _OTHERS)}")


def _refused(name: str, raw: bytes, read: Callable[[str, bytes], object]) -> Iterator[Finding]:
    try:
        read(name, raw)
    except GridpostError as error:
        yield from _of_error(name, error, None)


def _with_adapter(installed: str) -> Callable[[str, bytes], object]:
    def read(name: str, raw: bytes) -> object:
        # Zone and moment decide only which moment a file's clock shows; whether the file is well made, they do not.
        return adapter(installed).parse(raw, FormatOptions(zone=UTC, to_utc=0, origin=name))

    return read


def _read_urdb(name: str, raw: bytes) -> object:
    # In no zone are a tariff's hours well made that are not so in another.
    return tariff_files.read(raw, tariff_files.Unsaid("Etc/UTC"), name)


def _begins(*beginnings: bytes) -> Callable[[str, bytes], bool]:
    return lambda _name, raw: raw.lstrip(_WHITE).startswith(beginnings)


def _has_root(*names: bytes) -> Callable[[str, bytes], bool]:
    """Tell by the first tag, whatever its prefix; what stands before it may be a declaration, comments, a DOCTYPE."""
    root = re.compile(rb"\s*(?:<[?!][^>]*>\s*)*<(?:[\w.-]+:)?(?:%b)[\s/>]" % b"|".join(names))
    return lambda _name, raw: root.match(raw) is not None


def _is_json(name: str, raw: bytes) -> bool:
    return not name.endswith(".csv") and raw.lstrip(_WHITE)[:1] in (b"{", b"[", b'"')


def _is_line(name: str, raw: bytes) -> bool:
    """Four cells, the first a number: a CSV of readings begins with the names of its columns."""
    return name.endswith(".csv") and re.match(rb"\s*[-+.0-9]*,(?:[^,\n]*,){2}[^,\n]*(?:\n|\Z)", raw) is not None


_WHITE = b" \t\r\n"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_OTHERS: Sequence[tuple[str, Callable[[str, bytes], bool], Callable[[str, bytes], object]]] = (
    ("NEM13", _begins(b"100,NEM13"), _with_adapter("nem13")),
    ("NEM12", _begins(b"100,NEM"), _with_adapter("nem12")),
    ("CMEP", _begins(b"MEP"), _with_adapter("cmep")),
    ("URDB tariffs", _is_json, _read_urdb),
    ("MDEF", lambda name, raw: name.endswith((".mde", ".mdf")), _with_adapter("mv90")),
    ("Green Button", _has_root(b"feed", b"entry"), _with_adapter("greenbutton")),
    ("XML record", _has_root(b"billingInformation", b"billingInformationList"), _with_adapter("xml_record")),
    ("CSV line", _is_line, _with_adapter("csv_line")),
    ("CSV of readings", lambda name, raw: name.endswith(".csv"), lambda name, raw: tabular.parse(raw)),
)


# --- output ----------------------------------------------------------------------------------------------------------


def _with_progress(files: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, with a bar on standard error when there is much to do and somebody to watch."""
    sizes = [path.stat().st_size for path in files]
    console = Console(stderr=True)
    if sum(sizes) < _SHOW_PROGRESS_FROM or not console.is_terminal:
        yield from files
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("validating", total=sum(sizes))
        for path, size in zip(files, sizes, strict=True):
            progress.update(task, description=path.name)
            yield path
            progress.advance(task, size)


def _as_json(verdicts: Sequence[Verdict]) -> Mapping[str, object]:
    files = [
        {"file": verdict.file, "kind": verdict.kind, "valid": not verdict.findings}
        | {"findings": [asdict(finding) for finding in verdict.findings]}
        for verdict in verdicts
    ]
    return {"ok": all(file["valid"] for file in files), "files": files}


def _print(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        if not verdict.findings:
            click.echo(f"{verdict.file}: valid ({verdict.kind})")
        for finding in verdict.findings:
            where = f"{finding.file}:{finding.line}" if finding.line else finding.file
            click.echo(f"{where}: {finding.path + ': ' if finding.path else ''}{finding.reason} [{finding.code}]")
            if finding.hint:
                click.echo(f"    hint: {finding.hint}")
        if len(verdict.findings) == MAX_FINDINGS:
            click.echo(f"{verdict.file}: only the first {MAX_FINDINGS} findings are shown")
    invalid = sum(bool(verdict.findings) for verdict in verdicts)
    if len(verdicts) > 1 or invalid:
        click.echo(f"checked {len(verdicts)}, invalid {invalid}")
