"""gridpost report: use and cost of contracts on file, as a page and a file, for their users or a supplier (F31).

In: the store beside a running bus, contracts, a period. Out: for each contract, or for all of a supplier together, an
HTML page and a CSV, each written whole. What the bus makes by itself (`[reports]`) comes from the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gridpost.contract import Contract
from gridpost.errors import NotFound

from .. import config as configuration
from ..billing import filed
from ..choice import reporting
from ..choice.contracts import all_in_force
from ..choice.reporting import Desk, Files
from ..choice.usage import Asked
from ..store import SqlStore
from ..zones import zone_of
from .files import make_folder, write_whole
from .output import config_option, done, json_option, now_utc_ms, opened, progress

_DATE = click.DateTime(formats=["%Y-%m-%d"])
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("report")
@click.argument("contracts", nargs=-1, metavar="[CONTRACT...]")
@click.option("--supplier", help="All contracts in force of this supplier, instead of naming them.")
@click.option("--for", "reader", type=click.Choice(["consumer", "provider"]), default="consumer", show_default=True,
              help="A report a contract, or one with a row a contract.")  # fmt: skip
@click.option("--from", "first", type=_DATE, help="First local day; otherwise as far back as there are readings.")
@click.option("--to", "last", type=_DATE, help="Last local day, included; otherwise as far as there are readings.")
@click.option("--running", is_flag=True, help="The billing cycle that runs, as far as it is read.")
@click.option("--out", type=_FOLDER, required=True, help="The folder to fill.")
@config_option
@json_option
def command(
    contracts: Sequence[str], supplier: str | None, out: Path, config_file: Path, as_json: bool, **asked: Any
) -> None:
    """Report what contracts used and cost, day by day and hour by hour, and what happened: a page and a CSV each.

    A report is no bill: what is missing costs nothing and is counted, and the tariffs are those in force at its end.
    """
    if bool(contracts) == bool(supplier):
        raise click.UsageError("name contracts, or --supplier")
    if asked["running"] and (asked["first"] or asked["last"]):
        raise click.UsageError("--running is the present billing cycle; it takes no --from and --to")
    config = configuration.load(config_file)
    make_folder(out)
    with opened(config) as store:
        desk = Desk(store, zone_of, now_utc_ms() // 1000)
        found = _contracts(store, contracts, supplier, desk.now_utc)
        reports = [reporting.of_contract(desk, one, _time(one, asked)) for one in progress(found, "reporting")]
    if asked["reader"] == "provider":
        files = [reporting.provider(supplier or "contracts", reports)]
    else:
        files = [reporting.consumer(one) for one in reports]
    written = [str(path) for one in files for path in _write(out, one)]
    done(as_json, {"files": written}, "\n".join(written))


def _contracts(store: SqlStore, names: Sequence[str], supplier: str | None, now_utc: int) -> list[Contract]:
    """The contracts named, or a supplier's.

    Raises:
        NotFound: there are none.
    """
    found = [filed.contract(store, name).value for name in names]
    if supplier:
        found = [one for one in all_in_force(store, now_utc) if one.supplier == supplier]
    if not found:
        raise NotFound(f"supplier {supplier} has no contract in force")
    return found


def _time(contract: Contract, asked: dict[str, Any]) -> Asked:
    first, last = (asked[name].date() if asked[name] else None for name in ("first", "last"))
    return Asked(zone_of(contract.zone), contract.cycle_day, first, last, asked["running"])


def _write(out: Path, files: Files) -> list[Path]:
    for name, content in files.named.items():
        write_whole(out / name, content)
    return [out / name for name in files.named]
