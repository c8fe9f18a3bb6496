"""What is documented exists, and what exists is documented: settings, commands, codes, events, features, files."""

import ast
import importlib.util
import re
from pathlib import Path

import click
import pytest
from gridpost.ied_soap_client import cli as ied_cli
from gridpost.server import cli as bus_cli

from gridpost import leaf, recogniser
from gridpost.controls import ACTIONS
from gridpost.envelope import Limits

ROOT = Path(__file__).parent.parent
ROOMS = ("gridpost", "server", "ied_soap_client", "adapters")


def _load_tables():
    spec = importlib.util.spec_from_file_location("gridpost_doc_tables", ROOT / "script/_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = _load_tables()
PAGES = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("docs/*.md"))}
PAGES |= {file.name: file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("*.md"))}


def _trees():
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def _literals(callee: re.Pattern[str]) -> set[str]:
    """First arguments, where they are literal text, of calls whose function's last name matches."""
    found = set()
    for _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if callee.fullmatch(name) and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    return found


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [name for name in PAGES if "<!-- table:" in PAGES[name]])
def test_tables_are_what_the_code_says(page):
    assert TABLES.renewed(PAGES[page]) == PAGES[page], "run .venv/bin/python script/_tables.py"


def test_every_table_stands_in_some_page():
    placed = re.findall(r"<!-- table: (\w+) -->", "".join(PAGES.values()))
    assert sorted(placed) == sorted(TABLES.TABLES)


@pytest.mark.parametrize("group", [bus_cli.group, ied_cli.group])
def test_every_option_says_what_it_is_for(group):
    commands = list(TABLES.walk("", group))
    assert len(commands) > 7
    bare = [
        f"{line} {option.opts[0]}"
        for line, _, command in commands
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or option.show_default)
    ]
    assert bare == []
    assert [line for line, _, command in commands if not command.help] == []


# --- codes and events ------------------------------------------------------------------------------------------------


def test_every_finding_has_its_row():
    codes = _literals(re.compile(r"Item|_add"))
    assert {"unknown-channel", "not-carried"} <= codes
    rows = set(re.findall(r"(?m)^\| `([a-z-]+)` \|", PAGES["docs/errors.md"]))
    assert codes - rows == set()


def test_every_event_of_the_logs_has_its_row():
    told = _literals(re.compile(r"event|say|_say|journal|_journal"))
    assert {"recorded", "measured", "file-delivered", "receipted"} <= told
    missing = [name for name in sorted(told) if f"`{name}`" not in PAGES["docs/operations.md"]]
    assert missing == []


def test_the_leaf_is_documented_byte_for_byte():
    blocks = re.findall(r"::\n\n((?:    .*\n)+)", leaf.__doc__ or "")
    assert len(blocks) == 2
    for block in blocks:
        assert "".join(f"{line[4:]}\n" for line in block.splitlines()) in PAGES["docs/protocol.md"]


def test_the_layout_that_costs_least_is_the_one_that_is_recognised():
    (block,) = re.findall(r"```\n(<soap:Envelope(?:.*\n)+?)```", PAGES["docs/protocol.md"])
    filled = block.replace("\n", "")
    for field, value in {
        "{digest of Body}": "A" * 43 + "=",
        "{digest of Timestamp}": "B" * 43 + "=",
        "{certificate}": "AAAA",
        "{signature value}": "BBBB",
        "{created}": "2026-01-01T00:00:00.000Z",
        "{when made}": "2026-01-01T00:00:00.000Z",
        "{interval end}": "2026-01-01T00:00:00Z",
        "{sequence}": "7",
        "{value}": "0.5",
    }.items():
        assert field in filled
        filled = filled.replace(field, value)
    found = recogniser.recognise(
        re.sub(r"\{([a-z ]+)\}", lambda field: field[1].replace(" ", "-"), filled).encode(), Limits()
    )
    assert found is not None
    (read,) = found.message.readings.blocks
    assert read.channel == ("usage-point", "meter", "stream", "reading-type")
    assert read.values == ("0.5",)
    assert (found.message.header.source, found.message.header.last_receipt) == ("source", "last-receipt")


def test_the_soap_actions_are_the_wsdl_s():
    wsdl = (ROOT / "wsdl/metering.wsdl").read_text(encoding="utf-8")
    actions = re.findall(r'soapAction="([^"]+)"', wsdl)
    assert len(actions) == 4
    assert all(f"`{action}`" in PAGES["docs/protocol.md"] for action in actions)


# --- features --------------------------------------------------------------------------------------------------------

_ROW = re.compile(r"(?m)^\| ([FDU]\d+) \| (.+) \| (.+) \| (.+) \|$")


def _features():
    return [found.groups() for found in _ROW.finditer(PAGES["docs/features.md"])]


def test_every_feature_has_one_row():
    numbers = [number for number, *_ in _features()]
    assert numbers == [
        f"{letter}{n}" for letter, most in (("F", 106), ("D", 11), ("U", 34)) for n in range(1, most + 1)
    ]


def test_a_feature_is_later_or_names_what_exists():
    for number, _, place, test in _features():
        assert (place == "later") == (test == "later"), number
        for name in re.findall(r"`([^`]+)`", "" if place == "later" else f"{place} {test}"):
            assert (ROOT / name).exists(), f"{number}: {name}"
        if place != "later":
            assert re.search(r"`(tests|script)/[^`]+`", test), number


def test_every_command_to_devices_has_its_row_and_names_what_exists():
    section = PAGES["docs/features.md"].partition("## O: ")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`.+`) \| (.+) \| (.+) \|$", section)
    assert {name for names, *_ in rows for name in re.findall(r"`([^`]+)`", names)} == set(ACTIONS)
    named = [name for _, place, test in rows for name in re.findall(r"`([^`]+)`", place + test)]
    assert [name for name in named if not (ROOT / name).exists()] == []


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    base = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
        assert target.startswith("https://") or (base / target).exists(), target


def test_architecture_names_every_room_and_module_of_the_core():
    drawn = PAGES["ARCHITECTURE.md"]
    for file in (ROOT / "gridpost").glob("*.py"):
        assert file.stem == "__init__" or re.search(rf"\b{file.stem}\b", drawn), file.name
    files = re.findall(r"`([a-z0-9_/]+\.py)`", drawn)
    everywhere = [f"/{path}" for path, _ in _trees()] + ["/tests/test_architecture.py"]
    assert len(files) > 15
    assert [name for name in files if not any(path.endswith(f"/{name}") for path in everywhere)] == []


def test_adrs_are_numbered_and_listed():
    files = sorted(file.name for file in (ROOT / "docs/adr").glob("*.md"))
    assert files
    assert [name[:4] for name in files] == [f"{number:04d}" for number in range(1, len(files) + 1)]
    for name in files:
        text = (ROOT / "docs/adr" / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {name[:4]} ")
        assert "**Decision" in text, name
