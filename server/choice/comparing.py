"""A comparison as people and machines get it: the answer, what decided it, the picture.

In: bids and usage. Out: one object for ``--json``, the same as text, the same as a picture or a page. All amounts are
exact text; both bounds are given where data is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from gridpost.applications import comparison, determinants, hourly
from gridpost.applications.comparison import NOT_ENOUGH, STAY, SWITCH, Bid, Comparison, Cost, Usage
from gridpost.applications.determinants import Measured
from gridpost.model import DataVersion
from gridpost.units import format_utc

from .markup import Node, element, page, svg_file, table
from .picture import Curve, Picture, draw, money

_SHOWN = 10
_ENERGY = ("energy", "export", "real-time")  # charges that lie in their own hours
_TOLD = {
    SWITCH: "switch to {best}",
    STAY: "stay: no bid is cheaper",
    NOT_ENOUGH: "not enough data: what is cheaper depends on intervals that are not known",
}


class Question(NamedTuple):
    """What is compared.

    Attributes:
        present: what is paid now; bids: what else could be.
        usage: the customer's; switching_cost: in the tariffs' currency.
        customer: whose, for people.
        at: data version of the readings; empty where they are a file's.
    """

    present: Bid
    bids: Sequence[Bid]
    usage: Usage
    switching_cost: Decimal
    customer: str
    at: DataVersion = MappingProxyType({})


class Answer(NamedTuple):
    """A comparison and the question it answers."""

    question: Question
    found: Comparison

    @property
    def currency(self) -> str:
        """Of all amounts."""
        return self.question.present.tariffs[0].currency

    @property
    def best(self) -> int:
        """The place of the best bid among the costs."""
        return next(place for place, cost in enumerate(self.found.costs) if place and cost.bid == self.found.best)


def answer(question: Question) -> Answer:
    """Compare.

    Raises:
        BillRefused: readings that cannot be billed under a bid.
        TariffRefused: no bid, or several currencies.
    """
    return Answer(question, comparison.compare(*question[:4]))


def told(given: Answer) -> str:
    """Return the answer in words."""
    found = given.found
    unsure = len(found.uncertain)
    holds = f", whatever stood in the {unsure} intervals that are not known" if unsure else ""
    return _TOLD[found.answer].format(best=found.best) + (holds if found.answer != NOT_ENOUGH else f" ({unsure})")


def as_object(given: Answer) -> dict[str, Any]:
    """Return it for machines."""
    question, found = given.question, given.found
    costs = [
        {"name": cost.bid, "tariffs": [f"{one.supplier}/{one.id}" for one in bid.tariffs], "low": f"{cost.low:f}",
         "high": f"{cost.high:f}", "bounded": cost.bounded}
        for bid, cost in zip((question.present, *question.bids), found.costs, strict=True)
    ]  # fmt: skip
    return {
        "answer": found.answer, "best": found.best, "currency": given.currency,
        "saving": [f"{edge:f}" for edge in found.saving], "switching_cost": f"{question.switching_cost:f}",
        "customer": question.customer, "from": format_utc(question.usage.periods[0].from_utc),
        "to": format_utc(question.usage.periods[-1].to_utc), "zone": str(question.usage.periods[0].zone),
        "periods": len(question.usage.periods), "costs": costs,
        "decided_by": [
            {"charge": one.kind, "present": f"{one.present:f}", "best": f"{one.best:f}"} for one in found.decided_by
        ],
        "data_version": ",".join(f"{partition}:{seq}" for partition, seq in sorted(question.at.items())),
        "entries": _entries(question.usage),
        "uncertain": [{"channel": name, "interval_end": format_utc(end)} for name, end in found.uncertain],
    }  # fmt: skip


def _entries(usage: Usage) -> list[str]:
    """The entries of the log that the readings compared on came with: their receipts and proofs are had by these."""
    found = {position for one in usage.readings.values() for position in one.positions}
    return [f"{position.partition}:{position.seq}" for position in sorted(found)]


def as_text(given: Answer) -> str:
    """Return it for people."""
    shown = as_object(given)
    lines = [told(given), f"{shown['from']} to {shown['to']}, hours of {shown['zone']}; amounts in {given.currency}"]
    wide = max(len(one["name"]) for one in shown["costs"])
    for place, (one, cost) in enumerate(zip(shown["costs"], given.found.costs, strict=True)):
        marks = ["present"] * (place == 0) + ["best"] * (place == given.best)
        marks += ["no bounds: it may get cheaper as more is used"] * (not one["bounded"])
        mark = f"  ({', '.join(marks)})" if marks else ""
        lines.append(f"  {one['name'].ljust(wide)}  {money(cost.low, cost.high)}{mark}")
    lines.append(f"saving {money(*sorted(given.found.saving))}, switching cost {shown['switching_cost']} taken off")
    lines += [f"  {one['charge']}: {one['present']} now, {one['best']} then" for one in shown["decided_by"]]
    unsure = [f"  not known: {one['channel']} {one['interval_end']}" for one in shown["uncertain"]]
    lines += unsure[:_SHOWN] + [f"  and {len(unsure) - _SHOWN} more; --json lists them"] * (len(unsure) > _SHOWN)
    return "\n".join(lines)


# --- the picture -----------------------------------------------------------------------------------------------------


def picture(given: Answer) -> Node:
    """Return the drawing of the cost by hour; of what is not known the least is drawn."""
    usage, question = given.question.usage, given.question
    cases = [
        comparison.case(determinants.measured(usage.readings, usage.channels, period), low=True)
        for period in usage.periods
    ]
    bids = (question.present, *question.bids)
    pairs = enumerate(zip(bids, given.found.costs, strict=True))
    curves = [_curve(cases, bid, cost, mapped=place in (0, given.best)) for place, (bid, cost) in pairs]
    shown = as_object(given)
    title = f"Cost by hour: {question.customer}, {shown['from'][:10]} to {shown['to'][:10]}"
    return draw(Picture(title, told(given), given.currency, curves, given.best))


def _curve(cases: Sequence[Measured], bid: Bid, cost: Cost, *, mapped: bool) -> Curve:
    """A bid's curve; the map of every hour needs all its charges, the others' energy is enough."""
    energy = hourly.of(cases, bid.tariffs, [line for line in cost.lines if line.kind in _ENERGY])
    besides = {line.kind: _sum(cost, line.kind) for line in cost.lines if line.kind not in _ENERGY}
    told = ", ".join(f"{kind} {amount}" for kind, amount in besides.items())
    whole = hourly.of(cases, bid.tariffs, cost.lines) if mapped else energy
    return Curve(cost.bid, energy, whole, cost.low, cost.high, told)


def as_page(given: Answer) -> bytes:
    """Return a page with the picture and every figure of the answer."""
    shown = as_object(given)
    kinds = sorted({line.kind for cost in given.found.costs for line in cost.lines})
    rows = [(cost.bid, *(_sum(cost, kind) for kind in kinds), money(cost.low, cost.high)) for cost in given.found.costs]
    unsure = [(one["channel"], one["interval_end"]) for one in shown["uncertain"]]
    body = [
        element("p", told(given), class_="answer"),
        element("p", f"{shown['from']} to {shown['to']}, hours of {shown['zone']}. Amounts in {given.currency}. Saving "
                f"{money(*sorted(given.found.saving))}, the switching cost of {shown['switching_cost']} taken off."),
        picture(given),
        element("h2", "What each would cost"),
        table(("bid", *kinds, "total"), rows, numbers=1),
        element("h2", "What decided"),
        table(("charge", "now", "then"), [tuple(one.values()) for one in shown["decided_by"]], numbers=1),
    ]  # fmt: skip
    if unsure:
        body += [element("h2", "What is not known"), table(("channel", "interval end"), unsure)]
    body.append(element("footer", "Each amount is quantity times price, rounded by the tariff's own rule."))
    return page(f"Comparison of suppliers: {given.question.customer}", *body)


def rendered(given: Answer, suffix: str) -> bytes:
    """Return the picture as a file: ``.svg`` alone, anything else as a page."""
    return svg_file(picture(given)) if suffix == ".svg" else as_page(given)


def _sum(cost: Cost, kind: str) -> str:
    return f"{sum((line.amount for line in cost.lines if line.kind == kind), Decimal(0)):f}"
