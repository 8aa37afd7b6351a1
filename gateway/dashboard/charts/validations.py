"""What versions can do on fields whose truth is known."""

import math
from collections.abc import Sequence

import numpy as np

from astrotriton.gateway.dashboard.charts.drawing import (
    ROW,
    SHARE,
    TOP,
    WIDE_LEFT,
    WIDTH,
    Axis,
    Bar,
    Chart,
    Line,
    Mark,
    Table,
    Tick,
    above,
    across,
    around,
    clock,
    fraction,
    nothing,
    path,
    significant,
)
from astrotriton.gateway.dashboard.written import NONE
from astrotriton.wire.validation import Curve, Validation


def reliability(named: Sequence[tuple[str, Curve]]) -> Chart:
    """How often sources are real, against how sure the confidence is."""
    x = across(0.0, 1.0)
    chart = _curves(
        named,
        name="reliability",
        title="Reliability",
        x=x,
        labels=("confidence", "share that is real"),
        missing="The validation scored no source.",
    )
    if chart.missing is None:
        chart.lines.insert(0, Line(path([(0.0, 0.0), (1.0, 1.0)], x, SHARE), 0))
        chart.legend.append((0, "as it says"))
    return chart


def completeness(named: Sequence[tuple[str, Curve]]) -> Chart:
    """Share of the transients found with confidence 0.5, against their SNR."""
    return _curves(
        named,
        name="completeness",
        title="Completeness",
        x=across(0.0, above([place for _, curve in named for place in curve.x])),
        labels=("signal-to-noise ratio", "share found"),
        missing="The data set has no transient in the range of SNR.",
    )


def purity(named: Sequence[tuple[str, Curve]]) -> Chart:
    """Purity against completeness, as the threshold falls."""
    return _curves(
        named,
        name="purity",
        title="Purity against completeness",
        x=across(0.0, 1.0),
        labels=("completeness", "purity"),
        missing="The validation scored no source.",
    )


def accuracy(named: Sequence[tuple[str, dict[str, float | None]]]) -> Chart:
    """Average precision, completeness and purity side by side."""
    figures = ("average_precision", "completeness", "purity")
    names = [figure.replace("_", " ") for figure in figures]
    table = Table(
        ["figure", *(who for who, _ in named)],
        [
            [name, *(fraction(found.get(figure)) for _, found in named)]
            for name, figure in zip(names, figures, strict=True)
        ],
    )
    if not any(found.get(figure) is not None for _, found in named for figure in figures):
        return nothing(
            "accuracy", "Accuracy", table, "The data set could not tell any of these figures."
        )
    axis = Axis(0.0, 1.0, WIDE_LEFT, WIDTH - 60.0)
    band = ROW * len(named) + 14.0
    bars, ticks = [], []
    for i, (name, figure) in enumerate(zip(names, figures, strict=True)):
        top = TOP + i * band
        ticks.append(Tick(top + (band - 14.0) / 2, name))
        for j, (who, found) in enumerate(named):
            value = found.get(figure)
            if value is not None:
                bars.append(
                    Bar(
                        *(axis(0.0), top + j * ROW, axis(value) - axis(0.0), ROW - 4.0),
                        j + 1,
                        f"{who}: {name} {value:.3f}",
                        f"{value:.3f}",
                    )
                )
    bottom = TOP + len(figures) * band
    return Chart(
        name="accuracy",
        title="Accuracy",
        summary="; ".join(bar.text for bar in bars) + ".",
        x_ticks=axis.ticks(),
        y_ticks=ticks,
        plot=(WIDE_LEFT, TOP - 6.0, WIDTH - 60.0, bottom),
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
                *(clock(ended), one.dataset),
                *(fraction(one.figures.get(figure)) for _, figure in shown),
                "passed" if one.passed else "failed",
            ]
            for ended, one in found
        ],
    )
    if len(found) < 2:
        return nothing(
            "trend", "Validations over time", table, "A trend needs two complete validations."
        )
    since, x, ticks = around([ended for ended, _ in found])
    lines, marks = [], []
    for style, (name, figure) in enumerate(shown, start=1):
        points = [
            ((ended - since).total_seconds(), one.figures.get(figure)) for ended, one in found
        ]
        lines.append(Line(path(points, x, SHARE), style))
        marks += [
            Mark(
                *(x(place), SHARE(value), 4.0),
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
        summary=f"{len(found)} validations since {clock(since)}.",
        x_label="UTC",
        x_ticks=ticks,
        y_ticks=SHARE.ticks(),
        lines=lines,
        marks=marks,
        legend=[(style, name) for style, (name, _) in enumerate(shown, start=1)],
        table=table,
    )


def _curves(
    named: Sequence[tuple[str, Curve]],
    *,
    name: str,
    title: str,
    x: Axis,
    labels: tuple[str, str],
    missing: str,
) -> Chart:
    table = Table(
        ["version", *labels, "sources"],
        [
            [who, fraction(place), fraction(value), str(count) if curve.count else NONE]
            for who, curve in named
            for place, value, count in _thinned(curve)
        ],
    )
    if not table.rows:
        return nothing(name, title, table, missing)
    lines, marks = [], []
    for style, (who, curve) in enumerate(named, start=1):
        lines.append(Line(path(list(zip(curve.x, curve.y, strict=True)), x, SHARE), style))
        if curve.count:
            most = max(curve.count)
            marks += [
                Mark(
                    *(x(place), SHARE(value), 2.0 + 3.0 * math.sqrt(count / most)),
                    "dot" if style == 1 else "triangle",
                    style,
                    f"{who}: {fraction(value)} at {significant(place)}, {count} sources",
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
        y_ticks=SHARE.ticks(),
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
