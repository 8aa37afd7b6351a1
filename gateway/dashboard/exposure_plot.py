"""An exposure as a plot of where its detections lie, to scale, the first row at the bottom."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.dashboard.charts.drawing import Tick
from astrotriton.wire.detections import StoredDetection

_LONGEST = 600.0
_MARGIN = 46.0
_TICKS = 4

#: What became of a detection, as shapes tell it.
KINDS = {
    "real": "real",
    "doubtful": "not real",
    "merged": "merged into a better one",
    "unscored": "not scored",
}


class Spot(NamedTuple):
    """A detection on the plot."""

    id: UUID
    x: float
    y: float
    kind: str
    text: str


class Plot(NamedTuple):
    """The plot: ``frame`` is left, top, width and height of the exposure in it.

    ``others`` is a path with a dot for each place that has no spot.
    """

    width: float
    height: float
    frame: tuple[float, float, float, float]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    spots: list[Spot]
    others: str


def kind_of(detection: StoredDetection) -> str:
    """One of `KINDS`."""
    if detection.outcome == "kept":
        return "real" if detection.is_real else "doubtful"
    return detection.outcome


def plot(
    height: int,
    width: int,
    detections: Sequence[StoredDetection],
    places: Sequence[tuple[float, float]] = (),
) -> Plot:
    """The detections of an exposure of so many rows and columns; the first are drawn last.

    Parameters
    ----------
    places
        x and y of all its detections, pixels; those that are not among the others are dots.
    """
    scale = _LONGEST / max(height, width)
    across, up = width * scale, height * scale
    return Plot(
        width=round(across + _MARGIN + 14.0, 1),
        height=round(up + _MARGIN + 14.0, 1),
        frame=(_MARGIN, 14.0, round(across, 1), round(up, 1)),
        x_ticks=[
            Tick(round(_MARGIN + (at + 0.5) * scale, 1), str(at)) for at in _pixels(width, scale)
        ],
        y_ticks=[
            Tick(round(14.0 + up - (at + 0.5) * scale, 1), str(at)) for at in _pixels(height, scale)
        ],
        spots=[
            Spot(
                one.id,
                round(_MARGIN + (one.x + 0.5) * scale, 1),
                round(14.0 + up - (one.y + 0.5) * scale, 1),
                kind_of(one),
                f"#{one.rank}: {described(one)}",
            )
            for one in reversed(detections)
            if one.x is not None and -0.5 <= one.x <= width - 0.5
            if one.y is not None and -0.5 <= one.y <= height - 0.5
        ],
        others=_dots(
            {(x, y) for x, y in places if -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5}
            - {(one.x, one.y) for one in detections},
            scale,
            14.0 + up,
        ),
    )


def _dots(places: Iterable[tuple[float | None, float | None]], scale: float, bottom: float) -> str:
    """A path of dots. Whole numbers are near enough, and many lie on the same."""
    found = {
        (round(_MARGIN + (x + 0.5) * scale), round(bottom - (y + 0.5) * scale))
        for x, y in places
        if x is not None and y is not None
    }
    return "".join(f"M{x} {y}h0" for x, y in sorted(found))


def _pixels(length: int, scale: float) -> list[int]:
    """Round places along an axis, fewer on a short one."""
    count = max(1, round(_TICKS * length * scale / _LONGEST))
    rough = max(length / count, 1.0)
    power = 10 ** (len(str(int(rough))) - 1)
    step = next(int(power * i) for i in (1, 2, 5, 10) if power * i >= rough)
    return list(range(0, length, step))


def described(detection: StoredDetection) -> str:
    """What became of a detection, in a few words."""
    said = "" if detection.label is None else f", labelled {detection.label}"
    if detection.confidence is None:
        return f"{KINDS[kind_of(detection)]}{said}"
    return f"{KINDS[kind_of(detection)]}, confidence {detection.confidence:.3f}{said}"
