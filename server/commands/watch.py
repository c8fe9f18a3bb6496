"""gridpost watch example | check: the file of policies, by which readings and prices are watched.

In: nothing, or the file the settings name. Out: a file with every key and its meaning; or what is watched, each
contract with its tariffs and prices now. What a watch finds is in the audit log and the events, what it proposes in
`gridpost control list --issuer bus`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gridpost.applications import limits
from gridpost.errors import ConfigInvalid, GridpostError

from .. import config as configuration
from ..choice import policies
from ..choice.contracts import Place, place_of
from ..choice.policies import Watch
from ..store import SqlStore
from ..zones import zone_of
from .output import config_option, done, json_option, now_utc_ms, opened


@click.group("watch")
def command() -> None:
    """Watch readings and prices of customers by policies."""


@command.command("example")
@json_option
def example(as_json: bool) -> None:
    """Print a file of policies with every key, its meaning and its default."""
    text = policies.example()
    done(as_json, {"file": text}, text.rstrip())


@command.command("check")
@config_option
@json_option
def check(config_file: Path, as_json: bool) -> None:
    """Check the file of policies that the settings name, and show what it watches now."""
    config = configuration.load(config_file)
    if not config.choice.policies:
        raise ConfigInvalid("choice.policies names no file; 'gridpost watch example' prints one")
    watches = policies.load(config.path(config.choice.policies))
    with opened(config) as store:
        shown = [_shown(store, watch, now_utc_ms() // 1000) for watch in watches]
    done(as_json, {"watches": shown}, "\n".join(map(_text, shown)) or "nothing is watched")


def _shown(store: SqlStore, watch: Watch, now_utc: int) -> dict[str, Any]:
    said = {name: value for name, value in asdict(watch).items() if value not in ("", False)}
    try:
        place = place_of(store, zone_of, watch.contract, now_utc)
    except GridpostError as error:  # one contract that cannot be watched hides no other
        return said | {"problem": f"{error.code}: {error.reason}"}
    return said | {"meter": place.meter, "tariffs": _tariffs(place, now_utc)}


def _tariffs(place: Place, now_utc: int) -> list[dict[str, str | None]]:
    """Each tariff in force, and what a kWh costs under it now; None: it has no price then."""
    prices = [limits.price_or_none(one, now_utc, zone_of(one.zone)) for one in place.tariffs]
    return [
        {"supplier": one.supplier, "id": one.id, "price": None if price is None else f"{price:f} {one.currency}"}
        for one, price in zip(place.tariffs, prices, strict=True)
    ]


def _text(shown: dict[str, Any]) -> str:
    lines = [shown["contract"]]
    lines += [f"  {name}: {value}" for name, value in shown.items() if name not in ("contract", "tariffs")]
    lines += ["  pays {supplier}/{id}, {price} a kWh now".format(**one) for one in shown.get("tariffs", ())]
    return "\n".join(lines)
