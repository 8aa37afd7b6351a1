"""What was seen at a place over time."""

from collections.abc import Sequence
from datetime import datetime

from astrotriton.gateway.dashboard.charts.drawing import (
    BOTTOM,
    HEIGHT,
    TOP,
    Axis,
    Chart,
    Line,
    Mark,
    Table,
    around,
    clock,
    nothing,
    significant,
)
from astrotriton.wire.detections import StoredDetection

_NAME, _TITLE = "history", "Light curve"
_NAMES = {1: "brightening", 2: "fading"}


def light_curve(detections: Sequence[StoredDetection]) -> Chart:
    """Magnitudes at a place against time, bright ones at the top; or fluxes, without magnitudes.

    Fluxes are drawn only where all of them are in the same unit and of the same zero point. A
    detection without a time of observation stands at the time that it was scored.

    Parameters
    ----------
    detections
        Of one place, in any order.
    """
    known = [one for one in detections if one.mag is not None]
    by_mag = len(known) > 1
    if not by_mag:
        known = [one for one in detections if one.flux is not None]
    known.sort(key=_time)
    unit = "mag" if by_mag else (known[0].exposure.flux_unit or "counts") if known else ""
    points = [
        (one, one.mag, one.mag_err) if by_mag else (one, one.flux, one.flux_err) for one in known
    ]
    table = Table(
        ["UTC", "version", unit, "error", "polarity"],
        [
            [
                *(clock(_time(one)), str(one.model.version), significant(value, 5)),
                *(significant(error), "brightening" if one.polarity == 1 else "fading"),
            ]
            for one, value, error in points
        ],
    )
    if len({_time(one) for one in known}) < 2:
        return nothing(_NAME, _TITLE, table, "A light curve needs two times.")
    scales = {(one.exposure.flux_unit, one.exposure.zero_point) for one in known}
    if not by_mag and len(scales) > 1:
        reason = "The fluxes are in different units, and fewer than two have a magnitude."
        return nothing(_NAME, _TITLE, table, reason)
    values = [value for _, value, _ in points if value is not None]
    room = 0.1 * (max(values) - min(values)) or 0.5 * abs(values[0]) or 1.0
    ends = (TOP, HEIGHT - BOTTOM) if by_mag else (HEIGHT - BOTTOM, TOP)
    y = Axis(min(values) - room, max(values) + room, *ends)
    since, x, ticks = around([_time(one) for one in known])
    marks, lines = [], []
    for one, value, error in points:
        if value is None:
            continue
        place = x((_time(one) - since).total_seconds())
        style = 1 if one.polarity == 1 else 2
        text = f"{clock(_time(one))}: {significant(value, 5)} {unit}"
        if error is not None:
            text += f" ± {significant(error, 2)}"
            low, high = (min(max(value + by, y.low), y.high) for by in (-error, error))
            lines.append(Line(f"M{place:g} {y(low):g}V{y(high):g}", style))
        shape = "dot" if style == 1 else "triangle"
        marks.append(Mark(place, y(value), 4.0, shape, style, text))
    return Chart(
        name=_NAME,
        title=_TITLE,
        summary=f"{len(marks)} detections at this place since {clock(_time(known[0]))}.",
        x_label="UTC",
        y_label="magnitude" if by_mag else f"flux, {unit}",
        x_ticks=ticks,
        y_ticks=y.ticks(),
        lines=lines,
        marks=marks,
        legend=[(style, _NAMES[style]) for style in sorted({mark.style for mark in marks})],
        table=table,
    )


def _time(one: StoredDetection) -> datetime:
    return one.exposure.observed_at or one.created_at
