"""The picture of a comparison: what each supplier's energy costs by the hour, and when the best one is cheaper.

In: the cost of each hour under each bid. Out: a drawing (SVG), no script, no other file. Three panels: what energy
costs by the local clock on the mean day, a line a bid; the energy used in those hours; and every hour of the period,
coloured by how much the best bid saves or costs in it, demand in the hour that set it. What is drawn may be floats;
amounts that are written are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from gridpost.applications.hourly import CostByHour

from .markup import Node, element

WIDTH, LEFT, RIGHT = 980, 70, 270
_PLOT = WIDTH - LEFT - RIGHT
_COST_TOP, _COST_HIGH = 74, 200
_USE_TOP, _USE_HIGH = 316, 70
_MAP_TOP, _ROW = 436, 8
_MOST_COLUMNS = 62  # of the map: days; a longer period has a column a week
_DEEPEST = 98  # percent of the hours are told apart by their shade; those beyond, a demand's, have the deepest
_HIGH = _MAP_TOP + 24 * _ROW + 40
# Told apart by eyes that see no red and green (Okabe and Ito), the present contract in black.
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_GREY = "#999999"
_NAMED = 6  # curves in the legend; the page's table has all


class Curve(NamedTuple):
    """A bid.

    Attributes:
        name: of it; low, high: its whole cost.
        energy: what energy cost in each hour; whole: the same with demand in the hour that set it.
        besides: what it costs besides energy, in words.
    """

    name: str
    energy: CostByHour
    whole: CostByHour
    low: Decimal
    high: Decimal
    besides: str = ""


class Picture(NamedTuple):
    """What is drawn.

    Attributes:
        title, subtitle: above it.
        currency: of all amounts.
        curves: the present contract first; at least one.
        best: the place among `curves` that is held against the first in the map; 0: no map.
    """

    title: str
    subtitle: str
    currency: str
    curves: Sequence[Curve]
    best: int = 0


def draw(picture: Picture) -> Node:
    """Return the drawing."""
    parts = [
        element("rect", width=WIDTH, height=_HIGH, fill="#ffffff"),
        _text(LEFT, 22, picture.title, size=17),
        _text(LEFT, 42, picture.subtitle, size=13, fill="#444444"),
        *_costs(picture),
        *_usage(picture),
        *_legend(picture),
        *(_map(picture) if picture.best else ()),
    ]
    high = _HIGH if picture.best else _MAP_TOP
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {high}", width=WIDTH, height=high, role="img",
                   font_family="system-ui, sans-serif", xmlns="http://www.w3.org/2000/svg")  # fmt: skip


def colour(place: int) -> str:
    """Return the colour of a curve by its place."""
    return _COLOURS[place] if place < len(_COLOURS) else _GREY


# --- the mean day ----------------------------------------------------------------------------------------------------


def _costs(picture: Picture) -> Iterator[Node]:
    clocks = [
        [float(amount) / _days(curve.energy) for _, amount in curve.energy.by_clock()] for curve in picture.curves
    ]
    least, most = min(0.0, *map(min, clocks)), max(*map(max, clocks), 0.0001)
    yield from _scale(_COST_TOP, _COST_HIGH, least, most)
    yield _text(LEFT, _COST_TOP - 6, f"energy: {picture.currency} an hour of the mean day", size=11, fill="#666666")
    for place, clock in reversed([*enumerate(clocks)]):  # the present one is drawn last, on top
        points = [point for hour, cost in enumerate(clock) for point in _step(hour, cost, least, most)]
        line = element("polyline", element("title", picture.curves[place].name), points=" ".join(points), fill="none",
                       stroke=colour(place), stroke_width="2.4" if place in (0, picture.best) else "1.4",
                       stroke_dasharray="6 3" if place == 0 else None)  # fmt: skip
        yield line


def _step(hour: int, cost: float, least: float, most: float) -> tuple[str, str]:
    y = _COST_TOP + _COST_HIGH * (most - cost) / (most - least)
    return f"{_x(hour):.1f},{y:.1f}", f"{_x(hour + 1):.1f},{y:.1f}"


def _usage(picture: Picture) -> Iterator[Node]:
    cost = picture.curves[0].energy
    kwhs = [float(kwh) / _days(cost) for kwh, _ in cost.by_clock()]
    most = max(*kwhs, 0.0001)
    yield from _scale(_USE_TOP, _USE_HIGH, 0.0, most)
    yield _text(LEFT, _USE_TOP - 6, "kWh in it", size=11, fill="#666666")
    for hour, kwh in enumerate(kwhs):
        high = max(0.0, _USE_HIGH * kwh / most)
        yield element("rect", element("title", f"{hour:02d}:00 {kwh:.3f} kWh"), x=f"{_x(hour) + 1:.1f}",
                      y=f"{_USE_TOP + _USE_HIGH - high:.1f}", width=f"{_PLOT / 24 - 2:.1f}", height=f"{high:.1f}",
                      fill="#b8c4cc")  # fmt: skip
    for hour in range(0, 25, 3):
        yield _text(_x(hour), _USE_TOP + _USE_HIGH + 15, f"{hour:02d}:00", size=11, text_anchor="middle")


def _scale(top: int, high: int, least: float, most: float) -> Iterator[Node]:
    for part in range(5):
        value, y = least + (most - least) * part / 4, top + high * (4 - part) / 4
        yield element("line", x1=LEFT, x2=LEFT + _PLOT, y1=f"{y:.1f}", y2=f"{y:.1f}", stroke="#dddddd")
        yield _text(LEFT - 8, y + 4, f"{value:.3g}", size=11, text_anchor="end")


# --- every hour ------------------------------------------------------------------------------------------------------


def _map(picture: Picture) -> Iterator[Node]:
    """Each hour of the period: blue where the best bid is cheaper than the present one, orange where it is dearer."""
    cells = _cells(picture)
    by_size = sorted(abs(saved) for saved in cells.values())
    most = by_size[(len(by_size) - 1) * _DEEPEST // 100] if by_size else 0.0
    columns = sorted({column for column, _ in cells})
    wide = min(16.0, _PLOT / len(columns))
    best = picture.curves[picture.best].name
    yield _text(LEFT, _MAP_TOP - 8, f"each hour: {best} against {picture.curves[0].name}", size=11, fill="#666666")
    for (column, hour), saved in cells.items():
        when = f"{date.fromordinal(column).isoformat()} {hour:02d}:00"
        yield element("rect", element("title", f"{when} saves {saved:.4f} {picture.currency}"),
                      x=f"{LEFT + columns.index(column) * wide:.1f}", y=_MAP_TOP + hour * _ROW, width=f"{wide:.1f}",
                      height=_ROW, fill=_shade(saved / (most or 1.0)))  # fmt: skip
    for hour in range(0, 25, 6):
        yield _text(LEFT - 8, _MAP_TOP + hour * _ROW + 4, f"{hour:02d}:00", size=11, text_anchor="end")
    for place in sorted({0, len(columns) // 2, len(columns) - 1}):
        told = date.fromordinal(columns[place]).isoformat()
        yield _text(LEFT + place * wide, _MAP_TOP + 24 * _ROW + 15, told, size=11)
    for place, (told, share) in enumerate((("cheaper", 1.0), ("the same", 0.0), ("dearer", -1.0))):
        y = _MAP_TOP + 14 + 20 * place
        yield element("rect", x=WIDTH - RIGHT + 20, y=y, width=14, height=12, fill=_shade(share), stroke="#bbbbbb")
        yield _text(WIDTH - RIGHT + 42, y + 11, told, size=12)


def _cells(picture: Picture) -> dict[tuple[int, int], float]:
    """What the best bid saves: (first day of the column, hour) -> money."""
    mine, best = picture.curves[0].whole.hours, picture.curves[picture.best].whole.hours
    span = mine[-1].day - mine[0].day + 1 if mine else 0
    days = 1 if span <= _MOST_COLUMNS else 7
    found: dict[tuple[int, int], float] = {}
    for own, other in zip(mine, best, strict=True):
        key = own.day - (own.day - mine[0].day) % days, own.hour
        found[key] = found.get(key, 0.0) + float(own.amount - other.amount)
    return found


def _shade(share: float) -> str:
    """White at 0, full blue at 1, full orange at -1."""
    full = (0, 114, 178) if share > 0 else (213, 94, 0)
    return "#" + "".join(f"{round(255 + (part - 255) * min(1.0, abs(share))):02x}" for part in full)


# --- what they share -------------------------------------------------------------------------------------------------


def _legend(picture: Picture) -> Iterator[Node]:
    x = WIDTH - RIGHT + 20
    for place, curve in enumerate(picture.curves[:_NAMED]):
        y = _COST_TOP + 10 + 52 * place
        yield element("line", x1=x, x2=x + 24, y1=y, y2=y, stroke=colour(place), stroke_width=3,
                      stroke_dasharray="6 3" if place == 0 else None)  # fmt: skip
        yield _text(x + 32, y + 4, curve.name if len(curve.name) <= 30 else f"{curve.name[:29]}…", size=12)
        yield _text(x + 32, y + 19, f"{money(curve.low, curve.high)} {picture.currency}", size=11, fill="#666666")
        yield _text(x + 32, y + 33, curve.besides, size=10, fill="#888888")
    if len(picture.curves) > _NAMED:
        yield _text(x + 32, _COST_TOP + 10 + 52 * _NAMED, f"and {len(picture.curves) - _NAMED} more", size=11)


def money(low: Decimal, high: Decimal) -> str:
    """Return an amount, or both bounds where they differ."""
    return f"{low:f}" if low == high else f"{low:f} to {high:f}"


def _days(cost: CostByHour) -> int:
    return max(1, len({one.day for one in cost.hours}))


def _x(hour: int) -> float:
    return LEFT + _PLOT * hour / 24


def _text(x: float, y: float, text: str, size: int = 12, **more: object) -> Node:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", font_size=size, **{"fill": "#222222", **more})
