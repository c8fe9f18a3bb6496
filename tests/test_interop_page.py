"""docs/interop.md without any toolkit: every row of the kit stands there, as many call and sign as are asked for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from lxml import etree

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import interop_table  # noqa: E402
from run import missing, told  # noqa: E402
from toolkits import SIGNERS, TOOLKITS  # noqa: E402

PAGE = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
CALLS, SIGNS = interop_table.rows(PAGE, "calls"), interop_table.rows(PAGE, "signs")


def test_every_row_of_the_kit_was_run_and_no_other():
    assert [row[0] for row in CALLS] == [one.name for one in TOOLKITS]
    assert [row[0] for row in SIGNS] == [one.name for one in SIGNERS]


def test_at_least_eight_toolkits_call_everything_and_four_sign_and_verify():
    whole = [row[0] for row in CALLS if re.fullmatch(r"(\d+) of \1", row[4]) and row[5] == "yes"]
    both = [row[0] for row in SIGNS if row[2] == "yes, yes, yes"]
    assert (len(whole) >= 8, len(both) >= 4) == (True, True), (whole, both)


def test_what_is_not_done_has_its_error():
    for name, _, _, loaded, called, fault, words in CALLS:
        whole = all(re.fullmatch(r"(\d+) of \1", cell) for cell in (loaded, called)) and fault == "yes"
        assert whole or "`" in words, name
    for name, _, *families, words in SIGNS:
        assert families == ["yes, yes, yes"] * 2 or "`" in words, name


@pytest.fixture
def results():
    call = {
        "name": "A", "install": "apt: a b", "version": "1", "way": "w", "loaded": {"x": "ok", "y": "no: such"},
        "called": ["One"], "fault": True, "said": "Two: broken | pipe", "remark": "slow", "cannot": "",
    }  # fmt: skip
    family = {"taken": True, "verified": True, "forgery refused": False, "said": ""}
    sign = {"name": "B", "install": "pip: c", "version": "2", "remark": "", "families": {"RSA": family, "EC": family}}
    return {"operations": ["One", "Two"], "toolkits": [call], "signers": [sign]}


def test_a_page_is_renewed_in_its_tables_only(results):
    page = interop_table.renewed(PAGE, results)
    assert interop_table.rows(page, "calls") == [
        ["A", "1", "w", "1 of 2", "1 of 2", "yes", "slow; `Two: broken / pipe`; y: `no: such`"]
    ]
    assert interop_table.rows(page, "signs") == [["B", "2", "yes, yes, no", "yes, yes, no", ""]]
    assert interop_table.rows(page, "install") == [["Debian", "`a b`"], ["PyPI", "`c`"], ["npm", "``"]]
    assert re.sub(r"^\|.*\n", "", page, flags=re.MULTILINE) == re.sub(r"^\|.*\n", "", PAGE, flags=re.MULTILINE)


def test_another_version_is_no_difference_and_anything_else_is(results):
    page = interop_table.renewed(PAGE, results)
    results["toolkits"][0]["version"] = "9.9"
    assert not interop_table.differs(page, interop_table.renewed(PAGE, results))
    results["toolkits"][0]["fault"] = False
    assert interop_table.differs(page, interop_table.renewed(PAGE, results))


def test_a_toolkit_that_is_not_there_is_named_with_what_installs_it():
    there = TOOLKITS[0]._replace(name="A", install="apt: a", version=("true",))
    assert missing([there]) == []
    assert missing([there._replace(needs=("no-such-program", "/"))]) == ["A: no no-such-program (apt: a)"]
    assert missing([there._replace(version=("false",))]) == ["A: not installed (apt: a)"]


def test_what_a_toolkit_says_is_its_error_without_places_of_the_machine():
    assert told("fine\n  javac: error in /tmp/x/y/z/A.java\nmore") == "javac: error in A.java"
    assert told("Traceback (most recent call last):\n  an error\nOSError: none\n") == "OSError: none"
    assert told("") == "no word"


@pytest.mark.parametrize("name", ["metering.wsdl", "utility.wsdl"])
def test_a_fault_s_message_holds_its_part_first(name):
    """strong-soap takes the first child for it, and warns where that is a wsdl:documentation."""
    space = "{http://schemas.xmlsoap.org/wsdl/}"
    messages = etree.parse(ROOT / "wsdl" / name).iterfind(f"{space}message")
    firsts = {one.get("name"): next(one.iterchildren("*")).tag for one in messages if one.get("name").endswith("Fault")}
    assert set(firsts.values()) == {f"{space}part"}
