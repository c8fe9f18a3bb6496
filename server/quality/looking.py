"""What is asked of the store about the quality of a meter's readings: findings, completeness, what estimates go by.

In: an open store, a meter, local days, rules. Out: values of `gridpost/applications`. Reads only, so any process may.
Days are local days of a channel's zone, the last one included, and no later than now: what is still to come is not
missing. What must not be done here: recording anything (`handlers.py` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from gridpost.applications import completeness, rules, validation
from gridpost.applications.calendar import Period, midnight
from gridpost.applications.completeness import Completeness
from gridpost.applications.rules import RuleBook, Rules
from gridpost.applications.validation import Report, Subject
from gridpost.errors import ConfigInvalid, NotFound
from gridpost.model import Channel, DataVersion
from gridpost.ports import CurrentReadings, ZoneOf

from ..config import Config
from ..controls.clocks import Call, offset_ms
from ..store import SqlStore
from ..store.call_ins import call_ins

DAY_S = 86_400
_BEHIND_DAYS = 32  # as far as the next stand of a register that is read monthly


def rule_book(config: Config) -> RuleBook:
    """Return the rules the configuration names; the default ones where it names none.

    Raises:
        ConfigInvalid: the file cannot be read, or says what it may not.
    """
    if not config.quality.rules:
        return RuleBook()
    file = config.path(config.quality.rules)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigInvalid(f"the rules {file} cannot be read: {problem}") from None
    return rules.parse(text, str(file))


@dataclass(frozen=True, slots=True)
class Days:
    """Local days of a meter, the first and the last one included."""

    meter: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Looking:
    """A store with what is needed to understand it; `now_utc_ms` is the moment of the question."""

    store: SqlStore
    zone_of: ZoneOf
    now_utc_ms: int

    def channels(self, days: Days) -> list[tuple[Channel, Period]]:
        """Return the channels a meter has during these days, each with the period in its own zone, up to now.

        Raises:
            NotFound: no such meter, or nothing of it in these days.
        """
        found = [(channel, self.period(channel, days)) for channel in self.store.channels(meter=days.meter)]
        if not found:
            raise NotFound(f"no meter {days.meter!r} is enrolled")
        held = [(channel, period) for channel, period in found if _overlaps(channel, period)]
        if not held:
            raise NotFound(f"meter {days.meter} has no channel from {days.first} to {days.last}, up to now")
        return held

    def period(self, channel: Channel, days: Days) -> Period:
        """Return the days as a period of a channel's zone, ended by now."""
        zone = self.zone_of(channel.zone)
        begins = midnight(days.first, zone)
        ends = min(midnight(days.last + timedelta(days=1), zone), self.now_utc_ms // 1000)
        return Period(begins, max(begins, ends), zone)

    def reports(self, days: Days, book: RuleBook) -> Iterator[tuple[Channel, Report]]:
        """Yield what the rules say of each channel."""
        for channel, period in self.channels(days):
            _, report = self.judged(channel, period, book)
            yield channel, report

    def judged(self, channel: Channel, period: Period, book: RuleBook) -> tuple[CurrentReadings, Report]:
        """Return a channel's readings of a period, and what the rules say of them."""
        ruled = book.of(channel.key)
        subject = self._subject(channel, period, ruled)
        return subject.readings, validation.check(subject, ruled)

    def completeness(self, days: Days) -> Completeness:
        """Return how many of the expected intervals there are, at the newest data version."""
        at = self.store.version()
        held = self.channels(days)
        parts = [completeness.of_channel(self.readings(channel, period, at), period) for channel, period in held]
        return Completeness(
            days.meter,
            min(period.from_utc for _, period in held),
            max(period.to_utc for _, period in held),
            at,
            tuple(parts),
        )

    def around(self, channel: Channel, period: Period, ruled: Rules) -> CurrentReadings:
        """Return the readings that estimates of a period go by."""
        begins = period.from_utc - (ruled.look_back_days + 1) * DAY_S
        return self.store.readings(channel.id, begins, period.to_utc + _BEHIND_DAYS * DAY_S)

    def _subject(self, channel: Channel, period: Period, ruled: Rules) -> Subject:
        others = tuple(one for one in self.store.channels_at(channel.key.usage_point) if _replaces(one, channel))
        begins = period.from_utc - ruled.spike_days * DAY_S
        return Subject(
            period,
            self.readings(channel, period, None),
            self.store.readings(channel.id, begins, period.from_utc),
            self._clock_ms(channel.key.meter, period.to_utc),
            others,
        )

    def readings(self, channel: Channel, period: Period, at: DataVersion | None) -> CurrentReadings:
        """Return a channel's current readings of a period, as known at a data version (now when None)."""
        return self.store.readings(channel.id, period.from_utc, period.to_utc, at)

    def _clock_ms(self, meter: str, at_utc: int) -> int | None:
        """How far the clock of the IED that spoke for the meter in the end is off; of several the worst."""
        offsets: list[int] = []
        for serial in self.store.ieds_of(meter, at_utc - 1):
            calls: Sequence[tuple[int, int]] = call_ins(self.store, serial, self.now_utc_ms // 1000).calls
            offset = offset_ms(Call(*call) for call in calls)
            offsets += [] if offset is None else [offset]
        return max(offsets, key=abs, default=None)


def _overlaps(channel: Channel, period: Period) -> bool:
    ends = channel.valid_to_utc
    began = max(channel.valid_from_utc, period.from_utc)
    return began < period.to_utc and (ends is None or ends > began)


def _replaces(one: Channel, channel: Channel) -> bool:
    return one.key.meter != channel.key.meter and one.key.reading_type == channel.key.reading_type
