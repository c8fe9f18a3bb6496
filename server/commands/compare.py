"""gridpost compare: which supplier is cheapest on a customer's own intervals: switch, stay, or not enough data.

In: the readings of a file, or a contract on file with its stored readings; bids from files and from the store. Out: the
answer as text or JSON, and a picture of the cost by hour (SVG, or a page). Nothing is decided: an answer is a proposal.
Without a contract it needs no bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from gridpost.applications.comparison import Bid
from gridpost.errors import ConfigInvalid
from gridpost.ports import FormatOptions
from gridpost.tariff import SCOPES, Tariff
from gridpost.units import decimal_text

from .. import config as configuration
from ..choice import bids, comparing, usage
from ..choice.comparing import Question
from ..tariff_files import Unsaid
from ..zones import zone_of
from .convert import FORMATS
from .files import write_whole
from .output import config_option, done, json_option, now_utc_ms, opened, typed

_DATE = click.DateTime(formats=["%Y-%m-%d"])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)
_NO_PERIOD = "--running is the present billing cycle; it takes no --from and --to"


def _amount(text: str) -> Decimal:
    try:
        return Decimal(decimal_text(text))
    except ValueError as error:
        raise ConfigInvalid(f"{text!r} is no amount: {error}") from None


@click.command("compare")
@click.argument("contract", required=False)
@click.option("--readings", type=_FILE, help="A file of the customer's readings, instead of a contract.")
@click.option("--format", "source", type=click.Choice(list(FORMATS)), default="csv", show_default=True,
              help="Of that file.")  # fmt: skip
@click.option("--meter", default="", help="Whose readings, where the file has several meters.")
@click.option("--zone", help="Whose days and hours count, such as Europe/Paris; with a contract: the contract's.")
@click.option("--cycle-day", type=click.IntRange(1, 31), default=1, show_default=True,
              help="Day of the month on which a billing cycle begins; with a contract: the contract's.")  # fmt: skip
@click.option("--present", help="What is paid now, a BID; with a contract: the contract's.")
@click.option("--bid", "offers", multiple=True, metavar="BID",
              help="What else could be paid: NAME=FILE, FILE, SUPPLIER/ID, or two joined by + that are paid together. "
                   "May be given more than once; with a contract and none: every tariff on file.")  # fmt: skip
@click.option("--scope", type=click.Choice(SCOPES), default="month", show_default=True,
              help="How tiers of URDB files count energy: the month's total shared out, or each period's.")  # fmt: skip
@click.option("--from", "first", type=_DATE, help="First local day; otherwise as far back as there are readings.")
@click.option("--to", "last", type=_DATE, help="Last local day, included.")
@click.option("--running", is_flag=True, help="The billing cycle that runs, as far as it is read.")
@click.option("--switching-cost", default="0", show_default=True, callback=typed(_amount),
              help="Taken off the saving, in the tariffs' currency.")  # fmt: skip
@click.option("--out", type=_OUT, help="The picture of the cost by hour: FILE.svg, or FILE.html with all figures.")
@config_option
@json_option
def command(contract: str | None, readings: Path | None, as_json: bool, out: Path | None, **asked: Any) -> None:
    """Compare suppliers on a customer's own intervals: switch, stay, or not enough data.

    Amounts are exact; where intervals are missing or estimated each cost is [low, high], and no switch is advised
    that could turn out dearer. Fixed charges are in the costs, the switching cost is taken off the saving.
    """
    if asked["running"] and (asked["first"] or asked["last"]):
        raise click.UsageError(_NO_PERIOD)
    if bool(contract) == bool(readings):
        raise click.UsageError("name a contract, or --readings FILE")
    if out is not None and out.suffix not in (".svg", ".html"):
        raise click.UsageError("--out is a file that ends in .svg or .html")
    question = _of_file(readings, **asked) if readings else _of_contract(contract or "", **asked)
    given = comparing.answer(question)
    shown = comparing.as_object(given) | {"picture": str(out) if out else None}
    if out is not None:
        write_whole(out, comparing.rendered(given, out.suffix))
    done(as_json, shown, comparing.as_text(given) + (f"\npicture: {out}" if out else ""))


def _of_file(readings: Path, source: str, **asked: Any) -> Question:
    if not (asked["zone"] and asked["present"] and asked["offers"]):
        raise click.UsageError("--readings needs --zone, --present and at least one --bid")
    zone = zone_of(asked["zone"])
    options = FormatOptions(zone=zone, origin=readings.name)
    parsed = FORMATS[source].adapter().parse(readings.read_bytes(), options)
    used = usage.of_blocks(parsed.readings.blocks, _time(asked, zone), asked["meter"])
    unsaid = Unsaid(asked["zone"], scope=asked["scope"])
    present, *offers = _bids((asked["present"], *asked["offers"]), unsaid, bids.no_store)
    meter = next(iter(used.readings.values())).channel.key.meter
    return Question(present, offers, used, _cost(asked), meter)


def _of_contract(contract: str, config_file: Path, **asked: Any) -> Question:
    from ..choice import contracts  # here, so that files are compared without the store's libraries

    with opened(configuration.load(config_file)) as store:
        now_utc = now_utc_ms() // 1000
        place = contracts.place_of(store, zone_of, contract, now_utc)
        at = store.version()
        used = contracts.usage_of(store, place, _time(asked, place.zone), at)
        unsaid = Unsaid(place.contract.zone, scope=asked["scope"])

        def stored(supplier: str, name: str) -> Tariff:
            return contracts.tariff_of(store, supplier, name, now_utc)

        present = bids.read(asked["present"], unsaid, stored) if asked["present"] else bids.present(place.tariffs)
        offers = _bids(asked["offers"], unsaid, stored) or bids.offered(present, contracts.offers(store, now_utc))
    return Question(present, offers, used, _cost(asked), f"{contract}, {place.contract.usage_point}", at)


def _cost(asked: dict[str, Any]) -> Decimal:
    return Decimal(decimal_text(asked["switching_cost"]))


def _time(asked: dict[str, Any], zone: Any) -> usage.Asked:
    first, last = (_day(asked[name]) for name in ("first", "last"))
    return usage.Asked(zone, asked["cycle_day"], first, last, asked["running"])


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _bids(texts: Sequence[str], unsaid: Unsaid, stored: bids.Stored) -> list[Bid]:
    return [bids.read(text, unsaid, stored) for text in texts]
