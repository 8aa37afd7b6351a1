"""What every diagram is drawn with: its parts, in SVG units, and its axes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from astrotriton.gateway.dashboard.written import NONE

WIDTH, HEIGHT = 640, 270
#: Room around the area inside the axes, for what stands beside them.
LEFT, RIGHT, TOP, BOTTOM = 66.0, 16.0, 14.0, 46.0
#: Room for names beside lying bars, and the height of such a bar's row.
WIDE_LEFT = 190.0
ROW = 24.0

Points = Sequence[tuple[float, float | None]]


class Tick(NamedTuple):
    """A place on an axis, and what it is called."""

    at: float
    text: str


class Line(NamedTuple):
    """A line, broken where a value is missing. ``style`` is 1, 2 or 3; 0 is an aid to the eye."""

    path: str
    style: int


class Mark(NamedTuple):
    """A point; ``shape`` is ``dot``, ``triangle`` or ``ring``."""

    x: float
    y: float
    size: float
    shape: str
    style: int
    text: str


class Bar(NamedTuple):
    """A rectangle; ``text`` says what it is, ``value`` is written beside it."""

    x: float
    y: float
    width: float
    height: float
    style: int
    text: str
    value: str = ""


class Table(NamedTuple):
    """The figures of a diagram."""

    headers: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A diagram.

    Attributes
    ----------
    name
        Unique on a page.
    title, summary
        What it is, and what it shows in a sentence.
    x_label, y_label, x_ticks, y_ticks
        The axes.
    plot
        Left, top, right and bottom of the area inside the axes.
    lines, marks, bars
        What is drawn.
    legend
        Names, by style.
    table
        The same in figures.
    rows
        Whether bars lie, one in each row, rather than stand.
    missing
        Why there is nothing to draw; None if there is.
    """

    name: str
    title: str
    summary: str
    table: Table
    x_label: str = ""
    y_label: str = ""
    x_ticks: list[Tick] = field(default_factory=list)
    y_ticks: list[Tick] = field(default_factory=list)
    plot: tuple[float, float, float, float] = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    width: int = WIDTH
    height: int = HEIGHT
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    legend: list[tuple[int, str]] = field(default_factory=list)
    rows: bool = False
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from values to SVG units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5, name: Callable[[float], str] = "{:g}".format) -> list[Tick]:
        """About so many ticks, at round values."""
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [Tick(self(i * step), name(round(i * step, 12))) for i in range(first, last + 1)]


def across(low: float, high: float) -> Axis:
    """An axis from left to right."""
    return Axis(low, high if high > low else low + 1.0, LEFT, WIDTH - RIGHT)


def up(low: float, high: float) -> Axis:
    """An axis from the bottom up."""
    return Axis(low, high if high > low else low + 1.0, HEIGHT - BOTTOM, TOP)


#: Of what lies between 0 and 1.
SHARE = up(0.0, 1.0)


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * i for i in (1, 2, 5, 10) if power * i >= step * (1 - 1e-9))


def above(values: Sequence[float]) -> float:
    """A round number that no value exceeds, for the end of an axis from 0 on."""
    most = max(values, default=0.0)
    if most <= 0.0:
        return 1.0
    step = _round_step(most / 5)
    return math.ceil(most / step - 1e-9) * step


def path(points: Points, x: Axis, y: Axis) -> str:
    """The path of a line, interrupted where a value is missing."""
    parts = []
    drawing = False
    for (place, value), (_, following) in zip(points, [*points[1:], (0.0, None)], strict=True):
        if value is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{x(place):g} {y(value):g}")
        if not drawing and following is None:
            parts.append("h0")  # round ends make a dot of it
        drawing = True
    return "".join(parts)


def time_axis(since: datetime, until: datetime) -> tuple[Axis, list[Tick]]:
    """Seconds since the beginning, with ticks at round times, UTC."""
    length = (until - since).total_seconds()
    x = across(0.0, length)
    steps = (60, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 2 * 86400, 7 * 86400)
    step = next((one for one in steps if length / one <= 7), 30 * 86400)
    name = "%H:%M" if step < 86400 else "%d %b"
    first = math.ceil(since.timestamp() / step) * step
    ticks = [
        Tick(x(time - since.timestamp()), datetime.fromtimestamp(time, UTC).strftime(name))
        for time in range(first, int(until.timestamp()) + 1, step)
    ]
    return x, ticks


def around(times: Sequence[datetime]) -> tuple[datetime, Axis, list[Tick]]:
    """An axis with room beside ascending times, and where it begins."""
    room = max((times[-1] - times[0]) / 20, timedelta(minutes=1))
    since = times[0] - room
    return since, *time_axis(since, times[-1] + room)


def nothing(name: str, title: str, table: Table, reason: str) -> Chart:
    """A diagram that says why there is nothing to draw."""
    return Chart(name=name, title=title, summary="", table=table, missing=reason)


def clock(time: datetime) -> str:
    """A time in a table, UTC."""
    return time.astimezone(UTC).strftime("%d %b %H:%M")


def significant(value: float | None, digits: int = 3) -> str:
    """A figure with so many digits that count."""
    return NONE if value is None else f"{value:.{digits}g}"


def fraction(value: float | None) -> str:
    """A share of 1."""
    return NONE if value is None else f"{value:.3f}"
