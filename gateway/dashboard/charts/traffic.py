"""What the gateways have measured: latency, throughput, and how sure a version has been."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from astrotriton.gateway.dashboard.charts.drawing import (
    Bar,
    Chart,
    Line,
    Table,
    above,
    across,
    clock,
    nothing,
    path,
    significant,
    time_axis,
    up,
)
from astrotriton.wire.performance import Bins, Point


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
            [clock(point.time), *(significant(values[i]) for _, values in curves)]
            for i, point in enumerate(first)
            if any(values[i] is not None for _, values in curves)
        ],
    )
    known = [value for _, values in curves for value in values if value is not None]
    if not known:
        return nothing(
            "latency", title, table, "No interval of this window has enough runs for a percentile."
        )
    x, x_ticks = time_axis(*_span(first))
    y = up(0.0, above(known))
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
                path(
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
            [clock(point.time), *(str(values[i]) for _, values in stacks)]
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
        return nothing("throughput", title, table, "There were no runs in this window.")
    x, x_ticks = time_axis(*_span(first))
    y = up(0.0, above([float(height) for height in heights]))
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
                        f"{clock(point.time)}: {values[i]} {label}",
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
        return nothing(slug, title, table, "There were no detections in this window.")
    x, y = across(0.0, 1.0), up(0.0, above([float(count) for count in bins.counts]))
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


def _span(series: Sequence[Point]) -> tuple[datetime, datetime]:
    return series[0].time, series[-1].time + timedelta(seconds=series[-1].seconds)
