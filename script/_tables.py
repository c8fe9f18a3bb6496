"""Writes the tables of docs/ that the code already knows: settings, commands, error codes, file columns.

In: the installed Gridpost. Out: the text between `<!-- table: NAME -->` and `<!-- end -->` in docs/*.md, written anew.
Run it after a change: `.venv/bin/python script/_tables.py`. tests/test_docs.py fails while a table is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import click
from gridpost.ied_soap_client import cli as ied_cli
from gridpost.ied_soap_client import config as ied_config
from gridpost.server import cli as bus_cli
from gridpost.server import config as bus_config
from gridpost.server.office import rights
from gridpost.server.transports import http_values
from lxml import etree

from gridpost import controls, ns, schemas, settings, tabular
from gridpost.controls import ACTIONS, Role
from gridpost.errors import PeerFault, leaves
from gridpost.partners import MAY

DOCS = Path(__file__).parent.parent / "docs"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Rows = Iterator[tuple[str, ...]]


def _errors() -> Rows:
    yield "code", "whose fault", "again?", "HTTP", "what it means, and what to do"
    for leaf in leaves():
        whose = "theirs" if issubclass(leaf, PeerFault) else "ours"
        yield f"`{leaf.code}`", whose, leaf.retry, str(leaf.http_status), " ".join((leaf.__doc__ or "").split())


def _http() -> Rows:
    yield "code", "HTTP", "what to do"
    for value in vars(http_values).values():
        if isinstance(value, http_values.HttpRefusal):
            yield f"`{value.code}`", str(value.status), value.reason


def _settings(sections: Mapping[str, type]) -> Rows:
    yield "setting", "default", "meaning"
    for name, kind in sections.items():
        for item in fields(kind):
            default = settings.literal(item.metadata["default"])
            yield f"`{name}.{item.name}`", f"`{default}`", item.metadata["meaning"]


def _commands(program: str, command: click.Command) -> Rows:
    yield "command", "what it does"
    for name, _, one in walk(program, command):
        yield f"`{name}`", (one.help or "").split("\n\n")[0].replace("\n", " ")
        for option in one.params:
            if isinstance(option, click.Option):
                yield f"&nbsp;&nbsp;`{', '.join(option.opts)}`", _meaning(option)


def _meaning(option: click.Option) -> str:
    choices = f" One of {', '.join(option.type.choices)}." if isinstance(option.type, click.Choice) else ""
    shown = option.show_default and not callable(option.default)  # what is worked out at each call is no constant
    default = f" Default: `{option.default}`." if shown else ""
    return f"{option.help or ''}{choices}{default}".strip()


def walk(name: str, command: click.Command) -> Iterator[tuple[str, str, click.Command]]:
    """Yield each command that does something: its full line with arguments, its name, itself."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from walk(f"{name} {child}", found)
        return
    arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
    yield " ".join([name, *arguments]), name, command


def _columns(names: tuple[str, ...]) -> Callable[[], Rows]:
    def rows() -> Rows:
        yield "column", "meaning"
        for name in names:
            yield f"`{name}`", COLUMN_MEANINGS[name]

    return rows


def _actions() -> Rows:
    yield "kind of command", "EndDeviceControlType ref", "value in", "names an output"
    for name, action in controls.ACTIONS.items():
        yield f"`{name}`", f"`{action.code}`", action.unit, "yes" if action.output else ""


def _operations(wsdl: str) -> Rows:
    """The operations of a WSDL with the Body's child, and what their documentation says."""
    tree = etree.fromstring(schemas.documents()[wsdl])
    names = {"w": ns.WSDL}
    yield "operation", "Body child", "what it does"
    for one in tree.iterfind("w:portType/w:operation", names):
        message = one.find("w:input", names).get("message").partition(":")[2]
        element = tree.find(f"w:message[@name='{message}']/w:part", names).get("element").partition(":")[2]
        yield f"`{one.get('name')}`", f"`{element}`", " ".join(one.findtext("w:documentation", "", names).split())


COLUMN_MEANINGS = {
    "usage_point": "mRID of the usage point",
    "meter": "mRID of the meter",
    "channel": "stream name; may be empty in a channel table where the reading type tells the channels apart",
    "reading_type": "the 18 numbers of IEC 61968-9, dotted",
    "unit": "symbol of the unit, such as kWh; must agree with the reading type",
    "interval_s": "length of an interval in seconds; 0 marks a register reading in the CSV of readings",
    "interval_end_utc": "end of the interval, `2026-03-01T00:15:00Z` or with another offset",
    "value": "decimal number, kept digit by digit; empty only with quality 2.5.259",
    "quality": "codes `system.category.index`, joined by `;`; empty means valid",
    "quality_detail": "the source's own words for each code, in the same order, joined by `;`",
    "zone": "IANA name; interval ends are whole intervals after its standard midnight",
    "valid_from": "first moment the device speaks for the channel, with its offset",
    "custid": "MDEF CUSTID, 20 characters",
    "recid": "MDEF RECID and meter id",
    "uom_code": "MDEF unit code, two characters",
    "logical_channel": "MDEF logical channel number",
    "physical_channel": "MDEF physical channel number",
    "label": "a format's own label of the channel",
    "name": "customer name",
    "address1": "customer address, first line",
    "address2": "customer address, second line",
    "account": "customer account",
    "meter_multiplier": "the meter's multiplier, written where a format has a field; Gridpost never multiplies",
    "service_type": "what is measured, for formats that tell",
    "flow": "direction, for formats that tell",
    "nem12_suffix": "NEM12 NMISuffix",
    "nem12_configuration": "NEM12 NMIConfiguration",
    "nem12_register": "NEM12 RegisterID",
    "nem12_datastream": "NEM12 MDMDataStreamIdentifier",
    "nem12_next_read": "NEM12 NextScheduledReadDate",
}


def _rights() -> Rows:
    yield "request", "roles", "grant needed of each usage point concerned"
    for name, need in rights.NEEDS.items():
        roles = "all" if need.roles == frozenset(Role) else ", ".join(sorted(need.roles))
        yield f"`{name}`", roles, " or ".join(sorted(need.kinds)) or "none: it is about the partner's own"


def _role_actions() -> Rows:
    yield "role", "commands it may ask for"
    for role, actions in MAY.items():
        yield role.value, "all" if actions == frozenset(ACTIONS) else ", ".join(sorted(actions))


TABLES: Mapping[str, Callable[[], Rows]] = {
    "errors": _errors,
    "office_rights": _rights,
    "office_actions": _role_actions,
    "http": _http,
    "bus_settings": lambda: _settings(bus_config.SECTIONS),
    "ied_settings": lambda: _settings({**ied_config.SECTIONS, **ied_config.LISTS}),
    "bus_commands": lambda: _commands("gridpost", bus_cli.group),
    "ied_commands": lambda: _commands("gridpost-ied", ied_cli.group),
    "actions": _actions,
    "office_operations": lambda: _operations(schemas.OFFICE_WSDL_NAME),
    "supplier_operations": lambda: _operations(schemas.SUPPLIER_WSDL_NAME),
    "readings_columns": _columns(tabular.COLUMNS),
    "channel_columns": _columns(tabular.CHANNEL_COLUMNS),
    "site_columns": _columns((*tabular.KEY_COLUMNS, *tabular.SITE_COLUMNS)),
}


def markdown(rows: Rows) -> str:
    """Return rows as a table; the first is its head."""
    head, *rest = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def renewed(text: str) -> str:
    """Return a page with its tables written anew."""
    return _TABLE.sub(lambda found: found[1] + markdown(TABLES[found[2]]()) + found[3], text)


def main() -> int:
    """Write the pages that changed."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
