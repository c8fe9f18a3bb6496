"""The demonstration's value side: a bill, a proof of it that verifies, three suppliers compared with a picture.

In: a bus that holds a month of readings and a policy. Out: files, named as they appear, and what the bus proposes by
itself. It drives the installed commands only.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from _demo_run import GRIDPOST, command, stage, until

TARIFFS = Path(__file__).resolve().parent.parent / "examples/tariffs"
FILES = ("harbour-flat.json", "meridian-day.json", "alder-demand.json")
PRESENT = "Harbour-Power/HARBOUR-FLAT"
CONTRACT, ZONE = "DEMO-1", "Etc/UTC"


class Value(NamedTuple):
    """What came of it: the bill's id, its proof, and each file with what it is."""

    bill: str
    proof: Path
    files: Mapping[str, Path]


def watched(folder: Path, device: str) -> None:
    """Have the bus watch the contract to come, and report what it finds; before it is started."""
    (folder / "policies.toml").write_text(
        f'[[watch]]\ncontract = "{CONTRACT}"\nmost_kw = "9"\ndevice = "{device}"\n'
        'on_excess = "reduce"\nlevel_kw = "8"\n',
        encoding="utf-8",
    )
    settings = folder / "bus/gridpost.toml"
    text = settings.read_text(encoding="utf-8")
    text = text.replace("[choice]\n", '[choice]\npolicies = "../policies.toml"\n')
    text = text.replace("[reports]\n", '[reports]\ndirectory = "reports"\n')
    settings.write_text(text, encoding="utf-8")


def contracted(folder: Path, month: date, usage_point: str) -> None:
    """Put three suppliers' tariffs and a contract from the month on on file."""
    config = ("--config", folder / "bus/gridpost.toml")
    for name in FILES:
        command(GRIDPOST, "tariff", "add", TARIFFS / name, "--zone", ZONE, *config)
    command(
        GRIDPOST, "contract", "add", CONTRACT, "--usage-point", usage_point, "--tariff", PRESENT,
        "--customer", "The workshop", "--from", f"{month}", *config,
    )  # fmt: skip
    stage("contract", f"{CONTRACT}: pays {PRESENT}; two other suppliers' tariffs are on file, from {TARIFFS}")


def value_side(folder: Path, month: date) -> Value:
    """Bill a month, prove the bill, compare suppliers on it, and show what the bus found by itself."""
    config = ("--config", folder / "bus/gridpost.toml")
    days = ("--from", f"{month}", "--to", f"{month + timedelta(days=monthrange(month.year, month.month)[1] - 1)}")
    made = command(GRIDPOST, "bill", "make", CONTRACT, "--cycle", f"{month:%Y-%m}", *config)
    bill = str(made["bill"])
    stage("bill", f"{bill}: {made['total']} {made['currency']} for {month:%B %Y}, an entry of the log like any other")
    proof = folder / "bill.proof.jsonl"
    entries = command(GRIDPOST, "proof", bill, "--out", proof, *config)["entries"]
    command(GRIDPOST, "verify", "--trust", folder / "bus/ca.pem", proof)
    stage("proof", f"{proof}: {entries} signed entries; it verifies without the bus, down to each digit")
    page, picture = folder / "suppliers.html", folder / "suppliers.svg"
    command(GRIDPOST, "compare", CONTRACT, *days, "--out", picture, *config)
    found = command(GRIDPOST, "compare", CONTRACT, *days, "--out", page, *config)
    answer = f"{found['answer']} to {found['best']}" if found["answer"] == "switch" else found["answer"]
    stage("suppliers", f"{answer}; saves {found['saving'][0]} {found['currency']}: {page}")
    control = until(lambda: _proposed(config), 60, "what the policy proposes")
    stage(
        "watched",
        f"proposed, and waits for a person: {control['action']} to {control['value']} kW, {control['reason']}",
    )
    report = until(lambda: next((folder / "bus/reports").glob("*.html"), None), 60, "the report of what was found")
    return Value(bill, proof, {
        f"proof of the bill {bill}": proof,
        "suppliers compared, all figures": page,
        "cost by hour, the picture": picture,
        "report of what the policy found": report,
    })  # fmt: skip


def _proposed(config: tuple[str, Path]) -> dict[str, Any] | None:
    proposals = command(GRIDPOST, "control", "list", "--issuer", "bus", "--state", "proposed", *config)["controls"]
    return next(iter(proposals), None)
