"""The file of policies: what is watched of a contract's readings and prices, and what is proposed when it is crossed.

In: TOML, one ``[[watch]]`` a contract. Out: frozen policies, or ConfigInvalid naming the key. Amounts are decimal text;
an empty one is not watched. What a policy finds is an event in the log; what it proposes is a control that a person
releases (`gridpost control release`), or the policy itself where it says ``release = true``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path

from gridpost import settings, units
from gridpost.applications.limits import Limit
from gridpost.applications.limits import Policy as PricePolicy
from gridpost.applications.realtime import ANOMALY, EXCESS, SHORTAGE, Bounds, Pulses
from gridpost.controls import ACTIONS
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.settings import setting

DAY_S = 86_400
_LIMIT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d) ([0-9]{1,9}(?:\.[0-9]{1,9})?)\Z", re.ASCII)
_BOUNDS = tuple(item.name for item in fields(Bounds))


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched of one contract; empty texts are not."""

    contract: str = setting("", "id of the contract whose readings are priced as they come; needed")
    most_kw: str = setting("", "excess: mean power of an interval above it")
    most_kva: str = setting("", "excess: apparent power of an interval above it, where reactive energy is metered")
    least_kw: str = setting("", "shortage: mean power of an interval below it")
    most_a_day: str = setting("", "excess: what a local day may cost, in the tariff's currency")
    most_a_cycle: str = setting("", "excess: what a billing cycle may cost")
    times_usual: str = setting("", "anomaly: beyond so many times, or one part of, what like hours had in four weeks")
    pulse_kwh: str = setting("", "what a pulse is worth, in kWh, where the contract's channel counts pulses")
    device: str = setting("", "serial of the IED that gets controls; empty: nothing is proposed")
    output: str = setting("load", "the output of that IED which shed, restore and reduce name")
    on_excess: str = setting("", "the action proposed then: shed or reduce; empty: the event alone")
    on_shortage: str = setting("", "the action proposed then, such as start-generator")
    on_anomaly: str = setting("", "the action proposed then")
    level_kw: str = setting("", "what reduce brings consumption down to")
    limits: str = setting("", "the most a kWh may cost by the local clock: 06:00-18:00 0.80, 18:00-06:00 0.60")
    may_switch: bool = setting(True, "whether another supplier is proposed before consumption is cut")
    tell_tariff: bool = setting(
        False, "whether the IED is told, by tariff-update, when another tariff comes into force"
    )
    release: bool = setting(False, "whether this policy releases what it proposes; otherwise a person does")

    @property
    def bounds(self) -> Bounds:
        """What readings are held against."""
        return Bounds(**{name: _decimal(getattr(self, name)) for name in _BOUNDS})

    @property
    def pulses(self) -> Pulses | None:
        """What pulses are worth."""
        each = _decimal(self.pulse_kwh)
        return None if each is None else Pulses(each)

    @property
    def prices(self) -> PricePolicy | None:
        """What prices are held against."""
        if not self.limits:
            return None
        return PricePolicy(tuple(map(_limit, _parts(self.limits))), _decimal(self.level_kw), self.may_switch)

    @property
    def actions(self) -> Mapping[str, str]:
        """Kind of finding -> action."""
        return {EXCESS: self.on_excess, SHORTAGE: self.on_shortage, ANOMALY: self.on_anomaly}


def load(file: Path) -> tuple[Watch, ...]:
    """Read and check a file of policies.

    Raises:
        NotFound: it cannot be read.
        ConfigInvalid: not TOML, an unknown key, or a value that cannot be used; the key is named.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the policies {file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{file}: {error}") from None
    found: tuple[Watch, ...] = settings.parse(text, str(file), {}, {"watch": Watch})["watch"]
    for number, one in enumerate(found, 1):
        _check(one, f"{file}: [[watch]] {number} {one.contract}".rstrip())
    if len({one.contract for one in found}) < len(found):
        raise ConfigInvalid(f"{file}: two [[watch]] of one contract")
    return found


def example() -> str:
    """Return the file with every key, its meaning and its default."""
    return "\n".join(settings.render("[[watch]]", Watch, {"contract": "C-1"}))


def _check(one: Watch, where: str) -> None:
    if not one.contract:
        raise ConfigInvalid(f"{where}: contract is missing")
    for name in (*_BOUNDS, "pulse_kwh", "level_kw"):
        if _unreadable(getattr(one, name)):
            raise ConfigInvalid(f"{where}: {name} is no decimal number above 0: {getattr(one, name)!r}")
    if one.times_usual and Decimal(one.times_usual) <= 1:
        raise ConfigInvalid(f"{where}: times_usual must be above 1")
    for action in filter(None, one.actions.values()):
        if action not in ACTIONS:
            raise ConfigInvalid(f"{where}: unknown action {action}; known are {', '.join(ACTIONS)}")
        if not one.device:
            raise ConfigInvalid(f"{where}: {action} needs a device")
    if "reduce" in one.actions.values() and not one.level_kw:
        raise ConfigInvalid(f"{where}: reduce needs level_kw")
    if (one.limits or one.tell_tariff) and not one.device:
        raise ConfigInvalid(f"{where}: limits and tell_tariff need a device")
    _check_limits(one, where)


def _check_limits(one: Watch, where: str) -> None:
    """Each minute of the clock must lie in exactly one."""
    for text in _parts(one.limits):
        if not _LIMIT.match(text):
            raise ConfigInvalid(f"{where}: limits: {text!r} is not such as 06:00-18:00 0.80")
    prices = one.prices
    if prices is not None:
        wrong = [s for s in range(0, DAY_S, 60) if sum(limit.holds_at(s) for limit in prices.limits) != 1]
        if wrong:
            clock = f"{wrong[0] // 3600:02d}:{wrong[0] % 3600 // 60:02d}"
            raise ConfigInvalid(f"{where}: limits: at {clock} none is in force, or more than one")


def _parts(limits: str) -> list[str]:
    return [text.strip() for text in limits.split(",")] if limits else []


def _limit(text: str) -> Limit:
    match = _LIMIT.match(text)
    assert match, "checked when it was read"
    from_s, to_s = (int(match[at]) * 3600 + int(match[at + 1]) * 60 for at in (1, 3))
    return Limit(from_s, to_s % DAY_S, Decimal(match[5]))


def _decimal(text: str) -> Decimal | None:
    return Decimal(units.decimal_text(text)) if text else None


def _unreadable(text: str) -> bool:
    try:
        value = _decimal(text)
    except ValueError:
        return True
    return value is not None and value <= 0
