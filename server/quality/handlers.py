"""What changes readings or certifies them, as tasks: each becomes an entry of the bus's own (decision 9).

In: a bench, a task's arguments, the person who asks, the task's id. Out: the outcome as JSON. The entry's message id is
the task's, so a task done again finds its entry: once. What must not be done here: working anything out; the methods
are those of `gridpost/applications`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from gridpost import units
from gridpost.applications import completeness, editing, estimation, validation
from gridpost.applications.completeness import Completeness
from gridpost.applications.estimation import Estimated
from gridpost.documents import CERTIFICATE, OURS, Document
from gridpost.errors import NotFound
from gridpost.model import Channel, IntervalBlock, Readings, Receipt

from .. import own
from ..own import Bench
from . import gaps
from .gaps import Gap
from .looking import Days, Looking, rule_book

Outcome = dict[str, Any]
Args = Mapping[str, Any]


def days_args(days: Days) -> dict[str, Any]:
    """Return days as arguments of a task."""
    return {"meter": days.meter, "first": days.first.isoformat(), "last": days.last.isoformat()}


def _days(args: Args) -> Days:
    return Days(args["meter"], date.fromisoformat(args["first"]), date.fromisoformat(args["last"]))


def _looking(bench: Bench) -> Looking:
    return Looking(bench.store, bench.zone_of, bench.clock())


# --- estimates -------------------------------------------------------------------------------------------------------


def estimate(bench: Bench, args: Args, person: str, task_id: str) -> Outcome:
    """Record estimates for what a meter lacks; args: those of `days_args`, and ``again`` (estimates are holes too).

    Raises:
        NotFound: no such meter, or nothing of it in these days.
        ConfigInvalid: the rules.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    done = own.known(bench, task_id)
    if done is not None:
        return _recorded(done, [])
    looking, book, days = _looking(bench), rule_book(bench.config), _days(args)
    found: list[tuple[Channel, Estimated]] = []
    for channel, period in looking.channels(days):
        ruled = book.of(channel.key)
        around = looking.around(channel, period, ruled)
        found.append((channel, estimation.estimate(around, period, ruled, again=bool(args["again"]))))
    channels = [_told(channel, one) for channel, one in found]
    blocks = tuple(_block(channel, one, person) for channel, one in found if one.estimates)
    if not blocks:
        return {"entry": None, "stored": 0, "conflicting": 0, "channels": channels}
    return _recorded(own.record_readings(bench, task_id, Readings(blocks)), channels)


def _block(channel: Channel, found: Estimated, author: str) -> IntervalBlock:
    return IntervalBlock(
        channel.key,
        channel.interval_s,
        tuple(one.end_utc for one in found.estimates),
        tuple(one.value for one in found.estimates),
        tuple(one.qualities(author) for one in found.estimates),
    )


def _told(channel: Channel, found: Estimated) -> Outcome:
    methods = {one.method for one in found.estimates}
    return {
        **channel.key._asdict(),
        "estimated": {method: sum(one.method == method for one in found.estimates) for method in sorted(methods)},
        "scaled": sum(one.stands is not None for one in found.estimates),
        "left": [{"interval_end_utc": units.format_utc(end), "why": why} for end, why in found.left],
    }


# --- marks ---------------------------------------------------------------------------------------------------------


def mark(bench: Bench, args: Args, person: str, task_id: str) -> Outcome:
    """Record that values failed validation, as versions of the same values; args: those of `days_args`.

    Raises:
        NotFound: no such meter, or nothing of it in these days.
        ConfigInvalid: the rules.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    done = own.known(bench, task_id)
    if done is not None:
        return _recorded(done, [])
    looking, book = _looking(bench), rule_book(bench.config)
    judged = [looking.judged(channel, period, book) for channel, period in looking.channels(_days(args))]
    blocks = [validation.marked(readings, report.findings, person) for readings, report in judged]
    found = tuple(block for block in blocks if block is not None)
    if not found:
        return {"entry": None, "stored": 0, "conflicting": 0, "channels": []}
    return _recorded(own.record_readings(bench, task_id, Readings(found)), [])


# --- edits -----------------------------------------------------------------------------------------------------------


def edit(bench: Bench, args: Args, person: str, task_id: str) -> Outcome:
    """Record values in the place of others.

    Args (of the task): meter; stream and reading_type, which may be empty where they are not needed to tell; values:
    interval end (UTC seconds as text) -> decimal literal; reason.

    Raises:
        NotFound: no such channel, or several.
        ReadingsRefused: no reason, or values that cannot be; itemised.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    done = own.known(bench, task_id)
    if done is not None:
        return _recorded(done, [])
    values = {int(end): str(value) for end, value in args["values"].items()}
    by, now_utc = (person, str(args["reason"])), bench.clock() // 1000
    blocks = [
        editing.edited(channel, bench.zone_of(channel.zone), some, by, now_utc)
        for channel, some in _by_holder(_rows_of(bench, args), values)
    ]
    return _recorded(own.record_readings(bench, task_id, Readings(tuple(blocks))), [])


def _rows_of(bench: Bench, args: Args) -> list[Channel]:
    """The effective-dated rows of the one channel that is meant."""
    found = [
        channel
        for channel in bench.store.channels(meter=args["meter"])
        if args["stream"] in ("", channel.key.stream) and args["reading_type"] in ("", channel.key.reading_type)
    ]
    keys = sorted({channel.key for channel in found})
    if len(keys) != 1:
        names = ", ".join(f"{key.stream or '-'} ({key.reading_type})" for key in keys)
        raise NotFound(f"meter {args['meter']} has no such channel" if not keys else f"several channels match: {names}")
    return found


def _by_holder(rows: list[Channel], values: Mapping[int, str]) -> Iterator[tuple[Channel, Mapping[int, str]]]:
    """The values by the row that holds each; those that none holds go with the first, where they are refused."""
    by_row: dict[int, dict[int, str]] = {}
    for end, value in values.items():
        at = next((number for number, row in enumerate(rows) if row.holds_at(end)), 0)
        by_row.setdefault(at, {})[end] = value
    if not by_row:
        yield rows[0], {}
    yield from ((rows[at], some) for at, some in sorted(by_row.items()))


# --- completeness ----------------------------------------------------------------------------------------------------


def certify(bench: Bench, args: Args, person: str, task_id: str) -> Outcome:
    """Record a certificate of completeness; args: those of `days_args`. Its id names the meter and the days.

    Raises:
        NotFound: no such meter, or nothing of it in these days.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    days = _days(args)
    name = f"{days.meter}_{days.first}_{days.last}"
    done = own.known(bench, task_id)
    if done is None:
        found = _looking(bench).completeness(days)
        document = _certificate(name, found)
        done = own.record_documents(bench, task_id, person, (document,))
    kept = bench.store.documents_of([done.position])
    content = kept[0].document.content
    return {"entry": _entry(done), "id": name, "content": content}


def _certificate(name: str, found: Completeness) -> Document:
    point = found.channels[0].key.usage_point
    return Document(CERTIFICATE, name, OURS, point, found.from_utc, found.to_utc, completeness.encode(found))


def request(bench: Bench, args: Args, person: str, task_id: str) -> Outcome:
    """Ask the IEDs of a meter for what it lacks; args: those of `days_args`. What was asked for before is not again.

    Raises:
        NotFound: no such meter, nothing of it in these days, or no IED speaks for it now.
        ControlsRefused: the settings do not let an operator ask for data.
        SignerUnavailable, StoreUnavailable: nothing was recorded.
    """
    days, looking = _days(args), _looking(bench)
    serials = bench.store.ieds_of(days.meter, bench.clock() // 1000)
    if not serials:
        raise NotFound(f"no IED speaks for meter {days.meter} now")
    at = bench.store.version()
    found = [
        Gap(channel, from_utc, to_utc, serials[0])
        for channel, period in looking.channels(days)
        for from_utc, to_utc in completeness.of_channel(looking.readings(channel, period, at), period).gaps
    ]
    new = gaps.request(bench, found, task_id)
    asked = [
        {"channel": list(one.channel.key), "from": units.format_utc(one.from_utc), "to": units.format_utc(one.to_utc),
         "ied": one.serial, "control": f"{OURS}/{one.tracking_id}"}
        for one in new
    ]  # fmt: skip
    return {"gaps": len(found), "asked": asked, "person": person}


def _recorded(receipt: Receipt, channels: list[Outcome]) -> Outcome:
    counts = receipt.counts
    return {
        "entry": _entry(receipt), "stored": counts.stored, "conflicting": counts.conflicting, "channels": channels,
    }  # fmt: skip


def _entry(receipt: Receipt) -> str:
    return f"{receipt.position.partition}:{receipt.position.seq}"
