"""The tables of docs/interop.md: made of what a run saw, compared with what stands there, versions apart.

In: the results of `run.py`, the text of the page. Out: the page with its tables renewed; whether two pages say the
same. Nothing is run here. A table stands between ``<!-- seen: NAME -->`` and ``<!-- end -->``; the rest of the page is
written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CALLS = ("Toolkit", "Version seen", "Comes by", "WSDLs loaded", "Called", "Fault", "What it cannot, or says")
SIGNS = ("Signer", "Version seen", "RSA-3072", "P-256", "What it cannot, or needs")
INSTALL = ("From", "Packages")
INSTALLERS = {"apt": "Debian", "pip": "PyPI", "npm": "npm"}
Row = Sequence[str]


def renewed(page: str, results: Mapping[str, Any]) -> str:
    """Return a page with its tables as a run saw them."""
    tables = {
        "calls": _table(CALLS, (_call(one, len(results["operations"])) for one in results["toolkits"])),
        "signs": _table(SIGNS, map(_sign, results["signers"])),
        "install": _table(INSTALL, _install([*results["toolkits"], *results["signers"]])),
    }
    for name, table in tables.items():
        block = re.compile(rf"(<!-- seen: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, found = block.subn(lambda match, table=table: match[1] + table + match[2], page)
        assert found == 1, f"docs/interop.md has no place for the table {name}"
    return page


def differs(one: str, other: str) -> bool:
    """Tell whether two pages say different things, versions apart."""
    return _without_versions(one) != _without_versions(other)


def rows(page: str, name: str) -> list[list[str]]:
    """Return the cells of a table of a page, its head left out."""
    block = page.partition(f"<!-- seen: {name} -->\n")[2].partition("<!-- end -->")[0]
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()[2:]]


def _without_versions(page: str) -> str:
    return re.sub(r"^(\| [^|]* \|) [^|]* \|(.*\|.*\|)", r"\1 |\2", page, flags=re.MULTILINE)


def _table(head: Row, lines: Iterator[Row]) -> str:
    cells = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in cells)


def _call(one: Mapping[str, Any], count: int) -> Row:
    failed = {name: what for name, what in one["loaded"].items() if what != "ok"}
    loaded = f"{len(one['loaded']) - len(failed)} of {len(one['loaded'])}"
    words = [one["remark"], one["cannot"] and f"`{one['cannot']}`", one["said"] and f"`{one['said']}`"]
    words += [f"{name}: `{what}`" for name, what in failed.items()]
    called = f"{len(one['called'])} of {count}"
    return one["name"], one["version"], one["way"], loaded, called, _yes(one["fault"]), "; ".join(filter(None, words))


def _sign(one: Mapping[str, Any]) -> Row:
    cells, words = [], [one["remark"]]
    for family, seen in one["families"].items():
        cells.append(", ".join(_yes(seen[name]) for name in ("taken", "verified", "forgery refused")))
        words.append(seen["said"] and f"{family}: `{seen['said']}`")
    return one["name"], one["version"], *cells, "; ".join(filter(None, words))


def _install(seen: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for how, name in INSTALLERS.items():
        found = (one["install"].removeprefix(f"{how}: ").split() for one in seen if one["install"].startswith(how))
        yield name, "`" + " ".join(sorted({package for some in found for package in some})) + "`"


def _yes(whether: bool) -> str:
    return "yes" if whether else "no"
