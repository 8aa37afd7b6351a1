"""Looks for drift over time."""

from collections.abc import Sequence

from astrotriton.gateway.dashboard.charts.drawing import (
    SHARE,
    Chart,
    Line,
    Mark,
    Table,
    around,
    clock,
    fraction,
    nothing,
    path,
)
from astrotriton.gateway.dashboard.written import NONE
from astrotriton.wire.drift import DriftCheck, Feature


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
                *(clock(one.created_at), one.status, str(one.exposures)),
                *(
                    NONE if far is None else far.name,
                    fraction(None if far is None else far.distance),
                ),
            ]
            for one, far in zip(found, farthest, strict=True)
        ],
    )
    known = [(one, far) for one, far in zip(found, farthest, strict=True) if far and far.distance]
    if not known:
        return nothing(
            "drift", "Looks for drift", table, "No look had enough exposures to compare."
        )
    since, x, ticks = around([one.created_at for one, _ in known])
    marks = [
        Mark(
            *(x((one.created_at - since).total_seconds()), SHARE(far.distance or 0.0), 5.0),
            "triangle" if one.status == "drifted" else "dot",
            2 if one.status == "drifted" else 1,
            f"{clock(one.created_at)}: {one.status}, {far.name} {fraction(far.distance)}",
        )
        for one, far in known
    ]
    alarms = sum(one.status == "drifted" for one, _ in known)
    return Chart(
        name="drift",
        title="Looks for drift",
        summary=f"{len(known)} looks since {clock(since)}, {alarms} of them found drift.",
        x_label="UTC",
        y_label="largest KS distance",
        x_ticks=ticks,
        y_ticks=SHARE.ticks(),
        lines=[
            Line(
                path(
                    [
                        ((one.created_at - since).total_seconds(), far.distance)
                        for one, far in known
                    ],
                    x,
                    SHARE,
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
