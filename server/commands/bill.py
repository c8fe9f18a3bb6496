"""gridpost bill make | list | show | correct | again: bills of contracts, each traceable to signed messages.

In: a contract and a billing cycle, or the id of a bill. Out: entries of the log, made by the running bus or, where none
runs, at once; what is on file, with the entries, receipts and versions behind each line.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gridpost import contract as contracts
from gridpost.applications.bills import ESTIMATE, PARTIAL
from gridpost.applications.calendar import Period, cycle, local_day
from gridpost.bill_document import encode, standing
from gridpost.canonical_json import decimal_text
from gridpost.contract import Contract
from gridpost.errors import Internal

from .. import config as configuration
from .. import tasks
from ..billing import filed, making, showing
from ..billing.making import again as worked_out_again
from ..config import Config
from ..quality.handlers import days_args
from ..quality.looking import Days
from ..zones import zone_of
from .output import config_option, done, json_option, opened
from .person import person_option
from .valueside import DAY, begin_of, end_of, local

_bill = click.argument("bill", metavar="BILL")
_estimate = click.option(
    "--estimate", is_flag=True,
    help="Let estimates count; `make` has what is missing estimated first. The bill is marked.",
)  # fmt: skip
_partial = click.option("--partial", is_flag=True, help="Let intervals be missing; the bill is marked.")


@click.group("bill")
def command() -> None:
    """Make bills of contracts, show what is behind each line, correct them by late readings."""


@command.command("make")
@click.argument("contract")
@click.option("--cycle", "month", type=click.DateTime(formats=["%Y-%m"]), help="The billing cycle that begins then.")
@click.option("--from", "first", type=DAY, help="First local day, instead.")
@click.option("--to", "last", type=DAY, help="Last local day, included.")
@_estimate
@_partial
@person_option
@config_option
@json_option
def make(
    contract: str, estimate: bool, partial: bool, person: str, config_file: Path, as_json: bool, **asked: Any
) -> None:  # fmt: skip
    """Make the bill of a contract. With intervals missing or estimated it is refused, unless that is allowed."""
    if bool(asked["month"]) == bool(asked["first"]) or bool(asked["first"]) != bool(asked["last"]):
        raise click.UsageError("say --cycle YYYY-MM, or --from and --to")
    config = configuration.load(config_file)
    with opened(config) as store:
        one = filed.contract(store, contract).value
        period, from_utc, to_utc = _period(one, **asked)
        name = filed.bill_name(store, one, period)
    times = {"from_utc": from_utc, "to_utc": to_utc}
    given = {"id": name, "contract": f"{one.supplier}/{one.id}", "allow": _allowed(estimate, partial)} | times
    if estimate:
        _estimate_missing(config, one, given, person)
    outcome = tasks.ask(config, "bill", given, person)
    marks = "".join(f", {mark}" for mark in outcome["marks"])
    done(as_json, outcome, f"{outcome['bill']}: {outcome['total']} {outcome['currency']}{marks}")


@command.command("list")
@click.option("--contract", help="Only those of this contract.")
@config_option
@json_option
def list_(contract: str | None, config_file: Path, as_json: bool) -> None:
    """List bills, each with its corrections and what they come to together."""
    with opened(configuration.load(config_file)) as store:
        one = filed.contract(store, contract).value if contract else None
        families = filed.families(filed.bills_of(store, one) if one else filed.bills(store))
    found = []
    for family in families:
        first = family[0].value.bill
        found.append(
            {
                "bill": first.basis.id, "contract": first.basis.contract, "from": local(first.from_utc, first.zone),
                "to": local(first.to_utc, first.zone), "currency": first.currency, "billed": decimal_text(first.total),
                "total": decimal_text(standing([one.value for one in family]).total), "marks": list(first.marks),
                "corrections": [one.value.bill.basis.id for one in family[1:]],
            }
        )  # fmt: skip
    lines = [
        "{bill}  {from} to {to}  {total} {currency}".format(**one) + (" (corrected)" if one["corrections"] else "")
        for one in found
    ]
    done(as_json, {"bills": found}, "\n".join(lines) or "there is no bill")


@command.command("show")
@_bill
@config_option
@json_option
def show(bill: str, config_file: Path, as_json: bool) -> None:
    """Show a bill: its lines, and the entries of the log, the receipts and the versions behind each."""
    with opened(configuration.load(config_file)) as store:
        shown = showing.shown(store, bill)
    done(as_json, shown, showing.as_text(shown))


@command.command("correct")
@_bill
@_estimate
@_partial
@person_option
@config_option
@json_option
def correct(bill: str, estimate: bool, partial: bool, person: str, config_file: Path, as_json: bool) -> None:
    """Correct a bill by what is known now: a reversal of the lines that changed, and a new bill in their place."""
    config = configuration.load(config_file)
    with opened(config) as store:
        filed.bill(store, bill)
    outcome = tasks.ask(config, "bill-correction", {"bill": bill, "allow": _allowed(estimate, partial)}, person)
    if not outcome["changed"]:
        return done(as_json, outcome, f"{outcome['bill']}: nothing changed; it stands as it was")
    names = " and ".join(outcome["documents"])
    return done(as_json, outcome, f"{names}: {outcome['bill']} now comes to {outcome['total']} {outcome['currency']}")


@command.command("again")
@_bill
@config_option
@json_option
def again(bill: str, config_file: Path, as_json: bool) -> None:
    """Work a bill out again at its own data version, and say whether it is what was billed."""
    with opened(configuration.load(config_file)) as store:
        kept, new = worked_out_again(store, bill)
    total = decimal_text(new.bill.total)
    if encode(kept) != encode(new):
        raise Internal(f"{bill} was {decimal_text(kept.bill.total)}, worked out again it is {total}")
    shown = {"bill": bill, "total": total, "currency": new.bill.currency, "same": True}
    done(as_json, shown, f"{bill}: {total} {new.bill.currency}, as it was billed")


def _period(
    one: Contract, month: datetime | None, first: datetime | None, last: datetime | None
) -> tuple[str, int, int]:  # fmt: skip
    """Return what a bill's time is called, and the time: the part of a cycle in which the contract holds."""
    if month is None:
        assert first is not None, "the options were looked at"
        assert last is not None, "the options were looked at"
        return f"{first.date()}_{last.date()}", begin_of(first, one.zone), end_of(last, one.zone)
    whole = cycle(month.year, month.month, zone_of(one.zone), one.cycle_day)
    return f"{month:%Y-%m}", max(whole.from_utc, one.from_utc), one.ends_by(whole.to_utc)


def _estimate_missing(config: Config, one: Contract, given: dict[str, Any], person: str) -> None:
    """Have what a bill lacks estimated, as `gridpost estimate` does; a bill that is refused before leaves no estimate.

    Raises:
        GridpostError: as for the bill, or for the estimates; what cannot be estimated stays missing.
    """
    zone = zone_of(one.zone)
    period = Period(given["from_utc"], given["to_utc"], zone)
    with opened(config) as store:
        if not making.lacking(store, zone_of, given):
            return
        channels = contracts.resolved(one, store.channels(usage_point=one.usage_point), period)
    first, last = (local_day(moment, zone) for moment in (period.from_utc, period.to_utc - 1))
    for meter in sorted({channel.key.meter for _, channel in channels}):
        tasks.ask(config, "estimate", days_args(Days(meter, first, last)) | {"again": False}, person)


def _allowed(estimate: bool, partial: bool) -> list[str]:
    return [ESTIMATE] * estimate + [PARTIAL] * partial
