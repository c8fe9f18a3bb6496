"""The rules that readings are held against and estimated by: a file, its defaults, what differs for a channel.

Floor 4. In: TOML. Out: a frozen `Rules` for each channel, or ConfigInvalid naming the key. `default_text` is the file
with every rule at its default and its meaning; it is what counts without a file. No reading is looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from decimal import Decimal
from functools import cached_property

from .. import settings, units
from ..errors import ConfigInvalid
from ..model import ChannelKey
from ..settings import setting

# The rules of validation in the order they are applied. What one has found wrong, those behind it do not judge again: a
# value above the limit is no spike besides, and no sum is taken over a gap. docs/operations.md gives the reasons.
ORDER = (
    "time-tolerance", "meter-exchange", "gap", "duplicate", "register", "multiplier", "register-sum", "limit",
    "negative", "zero-run", "spike",
)  # fmt: skip
_DECIMALS = ("dial", "sum_tolerance", "high", "low", "spike_times")
_NAMES = ("usage_point", "meter", "stream", "reading_type")


@dataclass(frozen=True)
class Rules:
    """What the readings of a channel are held against, and how missing ones are estimated."""

    off: str = setting("", "rules left out, names separated by blanks; those there are: " + " ".join(ORDER))
    clock_s: int = setting(30, "time-tolerance: seconds by which an IED's clock may be off the bus's")
    register_s: int = setting(60, "seconds between an interval's end and a register reading that counts as its stand")
    dial: str = setting(
        "", "register: where the register starts at 0 again, such as 100000; empty: told from the stand before"
    )
    sum_tolerance: str = setting(
        "0.1",
        "register-sum, multiplier: by how much the intervals may differ from the register's difference, in the"
        " channel's unit; one in the last place of each stand comes on top",
    )
    high: str = setting("", "limit: highest value of an interval, in the channel's unit; empty: none")
    low: str = setting("", "limit: lowest value of an interval; empty: none")
    may_be_negative: bool = setting(False, "negative: let negative energy pass; net channels always may have it")
    zero_s: int = setting(86_400, "zero-run: seconds without consumption that are nothing strange; 0: any number")
    spike_times: str = setting("3", "spike: what is more than so many times the third highest value before is one")
    spike_days: int = setting(28, "spike: days before the period in which that is looked for")
    spike_least: int = setting(192, "spike: values that must be known of these days; with fewer nothing is a spike")
    line_s: int = setting(7200, "estimation: gaps up to so many seconds are filled by a straight line")
    like_days: int = setting(4, "estimation: so many days of the same kind before, at most, make a like day")
    look_back_days: int = setting(42, "estimation: days before the gap in which they are looked for")
    holidays: str = setting("", "days that are of the kind of Saturday and Sunday, YYYY-MM-DD, separated by blanks")

    @cached_property
    def days_off(self) -> frozenset[date]:
        """The holidays."""
        return frozenset(map(date.fromisoformat, self.holidays.split()))

    def holds(self, rule: str) -> bool:
        """Tell whether a rule of ORDER is applied."""
        return rule not in self.off.split()

    def decimal(self, name: str) -> Decimal | None:
        """Return a setting that is a decimal number; None where it is empty."""
        text = getattr(self, name)
        return Decimal(text) if text else None


@dataclass(frozen=True, slots=True)
class ForChannels:
    """What differs for the channels whose names are these; an empty name is any. Of several rows a later one wins."""

    usage_point: str = setting("", "mRID of the usage point")
    meter: str = setting("", "mRID of the meter")
    stream: str = setting("", "name of the stream")
    reading_type: str = setting("", "the 18 numbers")
    rules: Mapping[str, object] = setting({}, 'such as { high = "12.5", off = "zero-run" }')

    def names(self, key: ChannelKey) -> bool:
        """Tell whether a channel is one of these."""
        return all(getattr(self, name) in ("", getattr(key, name)) for name in _NAMES)


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of all channels."""

    default: Rules = field(default_factory=Rules)
    rows: tuple[ForChannels, ...] = ()

    def of(self, key: ChannelKey) -> Rules:
        """Return the rules of a channel."""
        given = {name: value for row in self.rows if row.names(key) for name, value in row.rules.items()}
        return replace(self.default, **given)  # type: ignore[arg-type]  # `parse` has held each against its field


def parse(text: str, where: str) -> RuleBook:
    """Read a file of rules.

    Args:
        text: TOML: a section ``[rules]``, and any number of ``[[channel]]``.
        where: the file's name, for messages.

    Raises:
        ConfigInvalid: not TOML, an unknown section, key or rule, a value of another kind or outside what it may be.
    """
    found = settings.parse(text, where, {"rules": Rules}, {"channel": ForChannels})
    default: Rules = found["rules"]
    _check(default, f"{where}: [rules]")
    book = RuleBook(default, found["channel"])
    for number, row in enumerate(book.rows, 1):
        place = f"{where}: [[channel]] number {number}, rules"
        for name, value in row.rules.items():
            known = {item.name: type(getattr(default, item.name)) for item in fields(Rules)}
            if known.get(name) is not type(value):
                raise ConfigInvalid(f"{place}: {name} = {value!r} is no rule, or of another kind than the rule")
        _check(replace(default, **row.rules), place)  # type: ignore[arg-type]  # as in `of`
    return book


def default_text() -> str:
    """Return the file with every rule at its default, commented, and an example of what differs for a channel."""
    title = ["# The rules of validation and estimation. They are applied in this order:", f"# {', '.join(ORDER)}.", ""]
    given = {item.name: getattr(Rules(), item.name) for item in fields(Rules)}
    rows = settings.render("# [[channel]]", ForChannels, {})
    return "\n".join([*title, *settings.render("[rules]", Rules, given), *rows])


def _check(rules: Rules, place: str) -> None:
    for name in _DECIMALS:
        _require(_is_decimal(getattr(rules, name)), f'{place}: {name} must be a decimal number as text, such as "12.5"')
    for item in fields(Rules):
        value = getattr(rules, item.name)
        _require(not isinstance(value, int) or value >= 0, f"{place}: {item.name} must not be below 0")
    for name in ("dial", "spike_times"):
        value = rules.decimal(name)
        _require(value is None or value > 0, f"{place}: {name} must be above 0")
    _require((rules.decimal("sum_tolerance") or 0) >= 0, f"{place}: sum_tolerance must not be below 0")
    _require(bool(rules.spike_times), f"{place}: spike_times must not be empty")
    unknown = _unknown(rules.off.split(), ORDER)
    _require(not unknown, f"{place}: off names no rule with {unknown!r}; those there are: {' '.join(ORDER)}")
    try:
        _ = rules.days_off
    except ValueError:
        raise ConfigInvalid(f"{place}: holidays are dates such as 2026-12-25, separated by blanks") from None


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
    return next((name for name in names if name not in known), "")


def _is_decimal(text: str) -> bool:
    try:
        return not text or units.decimal_text(text) == text
    except ValueError:
        return False


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigInvalid(otherwise)
