"""Diagrams: where everything goes, in SVG units; a template draws it.

Each diagram has a table of the same figures, and says so when there is nothing to draw.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from astrotriton.detection.confidence.calibration import apply_calibration
from astrotriton.wire.confidence import Derivation
from astrotriton.wire.drift import DriftCheck, Feature
from astrotriton.wire.performance import Bins, Point
from astrotriton.wire.validation import Curve, Validation

#: Stands for a figure that there is none of.
NONE = "—"

WIDTH, HEIGHT = 640, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 16.0, 14.0, 46.0
_WIDE_LEFT = 190.0
_ROW = 24.0

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
    plot: tuple[float, float, float, float] = (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)
    width: int = WIDTH
    height: int = HEIGHT
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    legend: list[tuple[int, str]] = field(default_factory=list)
    rows: bool = False
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    """A linear map from values to SVG units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5, name: Callable[[float], str] = "{:g}".format) -> list[Tick]:
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [Tick(self(i * step), name(round(i * step, 12))) for i in range(first, last + 1)]


def _across(low: float, high: float) -> _Axis:
    return _Axis(low, high if high > low else low + 1.0, _LEFT, WIDTH - _RIGHT)


def _up(low: float, high: float) -> _Axis:
    return _Axis(low, high if high > low else low + 1.0, HEIGHT - _BOTTOM, _TOP)


_SHARE = _up(0.0, 1.0)


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * i for i in (1, 2, 5, 10) if power * i >= step * (1 - 1e-9))


def _above(values: Sequence[float]) -> float:
    """A round number that no value exceeds, for the end of an axis from 0 on."""
    most = max(values, default=0.0)
    if most <= 0.0:
        return 1.0
    step = _round_step(most / 5)
    return math.ceil(most / step - 1e-9) * step


def _path(points: Points, x: _Axis, y: _Axis) -> str:
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


def _time_axis(since: datetime, until: datetime) -> tuple[_Axis, list[Tick]]:
    """Seconds since the beginning, with ticks at round times, UTC."""
    length = (until - since).total_seconds()
    x = _across(0.0, length)
    steps = (60, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 2 * 86400, 7 * 86400)
    step = next((one for one in steps if length / one <= 7), 30 * 86400)
    name = "%H:%M" if step < 86400 else "%d %b"
    first = math.ceil(since.timestamp() / step) * step
    ticks = [
        Tick(x(time - since.timestamp()), datetime.fromtimestamp(time, UTC).strftime(name))
        for time in range(first, int(until.timestamp()) + 1, step)
    ]
    return x, ticks


def _around(times: Sequence[datetime]) -> tuple[datetime, _Axis, list[Tick]]:
    """An axis with room beside ascending times, and where it begins."""
    room = max((times[-1] - times[0]) / 20, timedelta(minutes=1))
    since = times[0] - room
    return since, *_time_axis(since, times[-1] + room)


def _nothing(name: str, title: str, table: Table, reason: str) -> Chart:
    return Chart(name=name, title=title, summary="", table=table, missing=reason)


def _clock(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%d %b %H:%M")


def _shown(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}g}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def latency(named: Sequence[tuple[str, Sequence[Point]]]) -> Chart:
    """Percentiles of the whole request over time; of two versions, the 95th of each.

    Parameters
    ----------
    named
        The series of one version or of two, each with its name.
    """
    (name, first), *others = named
    title = "Latency of the whole request"
    curves: list[tuple[str, list[float | None]]]
    if others:
        curves = [(f"{one}, p95", [point.p95 for point in series]) for one, series in named]
    else:
        curves = [(q, [getattr(point, q) for point in first]) for q in ("p50", "p95", "p99")]
    table = Table(
        ["UTC", *(label for label, _ in curves)],
        [
            [_clock(point.time), *(_shown(values[i]) for _, values in curves)]
            for i, point in enumerate(first)
            if any(values[i] is not None for _, values in curves)
        ],
    )
    known = [value for _, values in curves for value in values if value is not None]
    if not known:
        return _nothing(
            "latency", title, table, "No interval of this window has enough runs for a percentile."
        )
    x, x_ticks = _time_axis(*_span(first))
    y = _up(0.0, _above(known))
    since = first[0].time
    return Chart(
        name="latency",
        title=title,
        summary=f"{name}: from {min(known):.3g} to {max(known):.3g} s over the window.",
        x_label="UTC",
        y_label="seconds",
        x_ticks=x_ticks,
        y_ticks=y.ticks(),
        lines=[
            Line(
                _path(
                    [
                        ((point.time - since).total_seconds() + point.seconds / 2, value)
                        for point, value in zip(first, values, strict=True)
                    ],
                    x,
                    y,
                ),
                style,
            )
            for style, (_, values) in enumerate(curves, start=1)
        ],
        legend=[(style, label) for style, (label, _) in enumerate(curves, start=1)],
        table=table,
    )


def _span(series: Sequence[Point]) -> tuple[datetime, datetime]:
    return series[0].time, series[-1].time + timedelta(seconds=series[-1].seconds)


def throughput(named: Sequence[tuple[str, Sequence[Point]]]) -> Chart:
    """Runs in each part of the window: of one version with its errors on top, of two abreast."""
    (name, first), *others = named
    title = "Runs"
    stacks: list[tuple[str, list[int]]]
    if others:
        stacks = [(one, [point.runs for point in series]) for one, series in named]
    else:
        stacks = [
            ("answered", [point.runs for point in first]),
            ("failed", [point.errors for point in first]),
        ]
    minutes = first[0].seconds / 60.0
    every = f"{minutes:g} min" if minutes < 60 else f"{minutes / 60:.3g} h"
    table = Table(
        ["UTC", *(label for label, _ in stacks)],
        [
            [_clock(point.time), *(str(values[i]) for _, values in stacks)]
            for i, point in enumerate(first)
            if any(values[i] for _, values in stacks)
        ],
    )
    abreast = bool(others)
    heights = [
        max(values[i] for _, values in stacks)
        if abreast
        else sum(values[i] for _, values in stacks)
        for i in range(len(first))
    ]
    if not any(heights):
        return _nothing("throughput", title, table, "There were no runs in this window.")
    x, x_ticks = _time_axis(*_span(first))
    y = _up(0.0, _above([float(height) for height in heights]))
    width = x(first[0].seconds) - x(0.0) - 1.0
    bars = []
    for i, point in enumerate(first):
        left = x((point.time - first[0].time).total_seconds()) + 0.5
        level = 0
        for style, (label, values) in enumerate(stacks, start=1):
            if values[i]:
                top = y(level + values[i])
                bars.append(
                    Bar(
                        left + (style - 1) * width / 2 * abreast,
                        top,
                        width / 2 if abreast else width,
                        y(level) - top,
                        style,
                        f"{_clock(point.time)}: {values[i]} {label}",
                    )
                )
                level += 0 if abreast else values[i]
    return Chart(
        name="throughput",
        title=title,
        summary=f"{name}: {sum(stacks[0][1])} runs; at most {max(heights)} in {every}.",
        x_label="UTC",
        y_label=f"runs in {every}",
        x_ticks=x_ticks,
        y_ticks=[tick for tick in y.ticks() if "." not in tick.text],
        bars=bars,
        legend=[(style, label) for style, (label, _) in enumerate(stacks, start=1)],
        table=table,
    )


def reliability(named: Sequence[tuple[str, Curve]]) -> Chart:
    """How often sources are real, against how sure the confidence is."""
    x = _across(0.0, 1.0)
    chart = _curves(
        named,
        name="reliability",
        title="Reliability",
        x=x,
        labels=("confidence", "share that is real"),
        missing="The validation scored no source.",
    )
    if chart.missing is None:
        chart.lines.insert(0, Line(_path([(0.0, 0.0), (1.0, 1.0)], x, _SHARE), 0))
        chart.legend.append((0, "as it says"))
    return chart


def completeness(named: Sequence[tuple[str, Curve]]) -> Chart:
    """Share of the transients found with confidence 0.5, against their SNR."""
    return _curves(
        named,
        name="completeness",
        title="Completeness",
        x=_across(0.0, _above([place for _, curve in named for place in curve.x])),
        labels=("signal-to-noise ratio", "share found"),
        missing="The data set has no transient in the range of SNR.",
    )


def purity(named: Sequence[tuple[str, Curve]]) -> Chart:
    """Purity against completeness, as the threshold falls."""
    return _curves(
        named,
        name="purity",
        title="Purity against completeness",
        x=_across(0.0, 1.0),
        labels=("completeness", "purity"),
        missing="The validation scored no source.",
    )


def _curves(
    named: Sequence[tuple[str, Curve]],
    *,
    name: str,
    title: str,
    x: _Axis,
    labels: tuple[str, str],
    missing: str,
) -> Chart:
    table = Table(
        ["version", *labels, "sources"],
        [
            [who, _share(place), _share(value), str(count) if curve.count else NONE]
            for who, curve in named
            for place, value, count in _thinned(curve)
        ],
    )
    if not table.rows:
        return _nothing(name, title, table, missing)
    lines, marks = [], []
    for style, (who, curve) in enumerate(named, start=1):
        lines.append(Line(_path(list(zip(curve.x, curve.y, strict=True)), x, _SHARE), style))
        if curve.count:
            most = max(curve.count)
            marks += [
                Mark(
                    *(x(place), _SHARE(value), 2.0 + 3.0 * math.sqrt(count / most)),
                    "dot" if style == 1 else "triangle",
                    style,
                    f"{who}: {_share(value)} at {_shown(place)}, {count} sources",
                )
                for place, value, count in zip(curve.x, curve.y, curve.count, strict=True)
            ]
    return Chart(
        name=name,
        title=title,
        summary=f"{labels[1]} against {labels[0]}, of {' and '.join(who for who, _ in named)}.",
        x_label=labels[0],
        y_label=labels[1],
        x_ticks=x.ticks(),
        y_ticks=_SHARE.ticks(),
        lines=lines,
        marks=marks,
        legend=[(style, who) for style, (who, _) in enumerate(named, start=1)],
        table=table,
    )


def _thinned(curve: Curve, most: int = 20) -> list[tuple[float, float, int]]:
    """A curve for a table."""
    chosen = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), most)).round())
    counts = curve.count or [0] * len(curve.x)
    return [(curve.x[i], curve.y[i], counts[i]) for i in chosen.astype(int).tolist()]


def accuracy(named: Sequence[tuple[str, dict[str, float | None]]]) -> Chart:
    """Average precision, completeness and purity side by side."""
    figures = ("average_precision", "completeness", "purity")
    names = [figure.replace("_", " ") for figure in figures]
    table = Table(
        ["figure", *(who for who, _ in named)],
        [
            [name, *(_share(found.get(figure)) for _, found in named)]
            for name, figure in zip(names, figures, strict=True)
        ],
    )
    if not any(found.get(figure) is not None for _, found in named for figure in figures):
        return _nothing(
            "accuracy", "Accuracy", table, "The data set could not tell any of these figures."
        )
    axis = _Axis(0.0, 1.0, _WIDE_LEFT, WIDTH - 60.0)
    band = _ROW * len(named) + 14.0
    bars, ticks = [], []
    for i, (name, figure) in enumerate(zip(names, figures, strict=True)):
        top = _TOP + i * band
        ticks.append(Tick(top + (band - 14.0) / 2, name))
        for j, (who, found) in enumerate(named):
            value = found.get(figure)
            if value is not None:
                bars.append(
                    Bar(
                        *(axis(0.0), top + j * _ROW, axis(value) - axis(0.0), _ROW - 4.0),
                        j + 1,
                        f"{who}: {name} {value:.3f}",
                        f"{value:.3f}",
                    )
                )
    bottom = _TOP + len(figures) * band
    return Chart(
        name="accuracy",
        title="Accuracy",
        summary="; ".join(bar.text for bar in bars) + ".",
        x_ticks=axis.ticks(),
        y_ticks=ticks,
        plot=(_WIDE_LEFT, _TOP - 6.0, WIDTH - 60.0, bottom),
        height=int(bottom + 30),
        rows=True,
        bars=bars,
        legend=[(style, who) for style, (who, _) in enumerate(named, start=1)],
        table=table,
    )


def trend(validations: Sequence[Validation]) -> Chart:
    """Average precision and calibration error of complete validations over time.

    Parameters
    ----------
    validations
        The newest first; those that are not complete are passed over.
    """
    shown = [("average precision", "average_precision"), ("calibration error", "ece")]
    found = [
        (one.finished_at, one)
        for one in reversed(validations)
        if one.status == "complete" and one.finished_at is not None
    ]
    table = Table(
        ["UTC", "data set", *(name for name, _ in shown), "gates"],
        [
            [
                *(_clock(ended), one.dataset),
                *(_share(one.figures.get(figure)) for _, figure in shown),
                "passed" if one.passed else "failed",
            ]
            for ended, one in found
        ],
    )
    if len(found) < 2:
        return _nothing(
            "trend", "Validations over time", table, "A trend needs two complete validations."
        )
    since, x, ticks = _around([ended for ended, _ in found])
    lines, marks = [], []
    for style, (name, figure) in enumerate(shown, start=1):
        points = [
            ((ended - since).total_seconds(), one.figures.get(figure)) for ended, one in found
        ]
        lines.append(Line(_path(points, x, _SHARE), style))
        marks += [
            Mark(
                *(x(place), _SHARE(value), 4.0),
                "dot" if style == 1 else "triangle",
                style,
                f"{name} {value:.3f}",
            )
            for place, value in points
            if value is not None
        ]
    return Chart(
        name="trend",
        title="Validations over time",
        summary=f"{len(found)} validations since {_clock(since)}.",
        x_label="UTC",
        x_ticks=ticks,
        y_ticks=_SHARE.ticks(),
        lines=lines,
        marks=marks,
        legend=[(style, name) for style, (name, _) in enumerate(shown, start=1)],
        table=table,
    )


def confidences(bins: Bins, name: str) -> Chart:
    """How sure a version has been."""
    table = Table(
        ["confidence", "detections"],
        [
            [f"{low:.2f} to {high:.2f}", str(count)]
            for (low, high), count in zip(pairwise(bins.edges), bins.counts, strict=True)
        ],
    )
    title = f"Confidence, {name}"
    slug = f"confidence-{name.replace(' ', '-')}"
    if not bins.count:
        return _nothing(slug, title, table, "There were no detections in this window.")
    x, y = _across(0.0, 1.0), _up(0.0, _above([float(count) for count in bins.counts]))
    return Chart(
        name=slug,
        title=title,
        summary=f"{bins.count} detections.",
        x_label="confidence",
        y_label="detections",
        x_ticks=x.ticks(),
        y_ticks=[tick for tick in y.ticks() if "." not in tick.text],
        bars=[
            Bar(
                *(x(low) + 0.5, y(count), x(high) - x(low) - 1.0, y(0.0) - y(count)),
                1,
                f"{low:.2f} to {high:.2f}: {count}",
            )
            for (low, high), count in zip(pairwise(bins.edges), bins.counts, strict=True)
            if count
        ],
        table=table,
    )


def drift(checks: Sequence[DriftCheck]) -> Chart:
    """Looks for drift over time: the largest distance of a descriptor from the reference.

    Parameters
    ----------
    checks
        The newest first.
    """
    found = list(reversed(checks))
    farthest = [max(one.features, key=_distance, default=None) for one in found]
    table = Table(
        ["UTC", "verdict", "exposures", "farthest", "distance"],
        [
            [
                *(_clock(one.created_at), one.status, str(one.exposures)),
                *(NONE if far is None else far.name, _share(None if far is None else far.distance)),
            ]
            for one, far in zip(found, farthest, strict=True)
        ],
    )
    known = [(one, far) for one, far in zip(found, farthest, strict=True) if far and far.distance]
    if not known:
        return _nothing(
            "drift", "Looks for drift", table, "No look had enough exposures to compare."
        )
    since, x, ticks = _around([one.created_at for one, _ in known])
    marks = [
        Mark(
            *(x((one.created_at - since).total_seconds()), _SHARE(far.distance or 0.0), 5.0),
            "triangle" if one.status == "drifted" else "dot",
            2 if one.status == "drifted" else 1,
            f"{_clock(one.created_at)}: {one.status}, {far.name} {_share(far.distance)}",
        )
        for one, far in known
    ]
    alarms = sum(one.status == "drifted" for one, _ in known)
    return Chart(
        name="drift",
        title="Looks for drift",
        summary=f"{len(known)} looks since {_clock(since)}, {alarms} of them found drift.",
        x_label="UTC",
        y_label="largest KS distance",
        x_ticks=ticks,
        y_ticks=_SHARE.ticks(),
        lines=[
            Line(
                _path(
                    [
                        ((one.created_at - since).total_seconds(), far.distance)
                        for one, far in known
                    ],
                    x,
                    _SHARE,
                ),
                0,
            )
        ],
        marks=marks,
        legend=[
            (style, name)
            for style, name in ((1, "steady"), (2, "drifted"))
            if any(mark.style == style for mark in marks)
        ],
        table=table,
    )


def _distance(feature: Feature) -> float:
    return feature.distance or 0.0


def contributions(derivation: Derivation) -> Chart:
    """What speaks for a source, and what against it."""
    terms = sorted(derivation.terms, key=lambda term: -abs(term.contribution))
    values = [*(term.contribution for term in terms), derivation.intercept, derivation.score]
    names = [*(term.name.replace("_", " ") for term in terms), "intercept", "score"]
    reach = _above([abs(value) for value in values])
    axis = _Axis(-reach, reach, _WIDE_LEFT, WIDTH - 70.0)
    bars, ticks = [], []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        top = _TOP + i * _ROW
        ticks.append(Tick(top + (_ROW - 6.0) / 2, name))
        left, right = sorted((axis(0.0), axis(value)))
        bars.append(
            Bar(
                *(left, top, max(right - left, 0.5), _ROW - 6.0),
                3 if name == "score" else 1 if value >= 0.0 else 2,
                f"{name}: {value:+.2f}",
                f"{value:+.2f}",
            )
        )
    bottom = _TOP + len(names) * _ROW
    zero = axis(0.0)
    return Chart(
        name="contributions",
        title="What the score is made of",
        summary=f"{names[0]} counts most, {values[0]:+.2f}; the score is {derivation.score:+.2f}.",
        x_label="logit: to the right speaks for a real source",
        x_ticks=axis.ticks(),
        y_ticks=ticks,
        plot=(_WIDE_LEFT, _TOP - 6.0, WIDTH - 70.0, bottom),
        height=int(bottom + 46),
        rows=True,
        lines=[Line(f"M{zero:g} {_TOP - 6.0:g}V{bottom:g}", 0)],
        bars=bars,
        legend=[(1, "for"), (2, "against"), (3, "sum")],
        table=Table(
            ["term", "adds"],
            [[name, f"{value:+.3f}"] for name, value in zip(names, values, strict=True)],
        ),
    )


def calibration(derivation: Derivation) -> Chart:
    """From the score to the confidence, and where this source lies."""
    curve = derivation.calibration
    low, high = min(-6.0, derivation.score - 1.0), max(6.0, derivation.score + 1.0)
    x = _across(low, high)
    scores = np.linspace(low, high, 100)
    mapped = expit(apply_calibration(scores, curve))
    here = (x(derivation.score), _SHARE(derivation.confidence))
    return Chart(
        name="calibration",
        title="From score to confidence",
        summary=(
            f"The score {derivation.score:.2f} is calibrated to {derivation.confidence:.3f}, "
            f"in 90 % of exposures between {derivation.low:.3f} and {derivation.high:.3f}."
        ),
        x_label="score, logit",
        y_label="confidence",
        x_ticks=x.ticks(8),
        y_ticks=_SHARE.ticks(),
        lines=[
            Line(_path(list(zip(scores.tolist(), mapped.tolist(), strict=True)), x, _SHARE), 1),
            Line(
                _path(list(zip(scores.tolist(), expit(scores).tolist(), strict=True)), x, _SHARE), 0
            ),
            Line(f"M{here[0]:g} {_SHARE(derivation.low):g}V{_SHARE(derivation.high):g}", 2),
        ],
        marks=[Mark(*here, 5.0, "dot", 2, f"this source: {derivation.confidence:.3f}")],
        legend=[(1, f"calibration ({curve.method})"), (0, "uncalibrated"), (2, "this source")],
        table=Table(
            ["score", "confidence"],
            [
                [f"{score:.2f}", f"{value:.3f}"]
                for score, value in zip(scores[::10].tolist(), mapped[::10].tolist(), strict=True)
            ],
        ),
    )
