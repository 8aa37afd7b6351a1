"""Looking around in an exposure: which part of it is shown, and what lies beside that."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from astrotriton.detection.image.overviews import Box
from astrotriton.gateway.dashboard.exposure_plot import Spot, described, kind_of
from astrotriton.wire.detections import StoredDetection

_LONGEST = 900.0
_SMALLEST = 32  # pixels of the shorter side at the largest scale
_LARGEST_SCALE = 256
_CLICKS = 3  # parts of a side that one can click into


class Place(NamedTuple):
    """A part of an exposure: its middle, 0-based pixels, and the scale, 1 for all of it."""

    x: float
    y: float
    scale: int


class Click(NamedTuple):
    """A part of what is shown, and where it leads."""

    left: float
    top: float
    width: float
    height: float
    place: Place


class View(NamedTuple):
    """What is shown, the first row at the bottom.

    Attributes
    ----------
    box
        The part of the exposure.
    place
        Its middle and its scale.
    width, height
        Of the drawing.
    moves
        Where one can go from it, by name; None where there is nothing more.
    clicks
        Closer looks at parts of it.
    spots
        Detections on it.
    """

    box: Box
    place: Place
    width: float
    height: float
    moves: dict[str, Place | None]
    clicks: list[Click]
    spots: list[Spot]

    def marked(self, detections: Sequence[StoredDetection]) -> "View":
        """The same with detections, the first on top."""
        unit = self.width / self.box.columns
        spots = [
            Spot(
                one.id,
                round((one.x + 0.5 - self.box.column) * unit, 1),
                round(self.height - (one.y + 0.5 - self.box.row) * unit, 1),
                kind_of(one),
                f"#{one.rank}: {described(one)}",
            )
            for one in reversed(detections)
            if one.x is not None and one.y is not None
        ]
        return self._replace(spots=spots)


def look(
    height: int, width: int, binning: int, x: float | None, y: float | None, scale: int
) -> View:
    """A part of an exposure of so many rows and columns.

    Parameters
    ----------
    binning
        Pixels of the exposure on a side of one of its picture's, which are shown whole.
    x, y
        What is to be in the middle, as near as the edges allow; None: the middle of the exposure.
    scale
        One part in so many of each side is shown; less where that would be too small.
    """
    most = max(1, min(_LARGEST_SCALE, min(height, width) // max(_SMALLEST, 4 * binning)))
    scale = max(1, min(scale, 1 << (most.bit_length() - 1)))
    column, columns = _part(width, binning, scale, x)
    row, rows = _part(height, binning, scale, y)
    box = Box(row, column, rows, columns)
    unit = _LONGEST / max(rows, columns)
    middle = Place(column + (columns - 1) / 2, row + (rows - 1) / 2, scale)
    moves = {
        "left": middle._replace(x=middle.x - columns / 2) if column > 0 else None,
        "right": middle._replace(x=middle.x + columns / 2) if column + columns < width else None,
        "up": middle._replace(y=middle.y + rows / 2) if row + rows < height else None,
        "down": middle._replace(y=middle.y - rows / 2) if row > 0 else None,
        "closer": middle._replace(scale=2 * scale) if 2 * scale <= most else None,
        "farther": middle._replace(scale=scale // 2) if scale > 1 else None,
    }
    return View(
        box=box,
        place=middle,
        width=round(columns * unit, 1),
        height=round(rows * unit, 1),
        moves=moves,
        clicks=[] if moves["closer"] is None else _clicks(box, unit, 2 * scale),
        spots=[],
    )


def _part(length: int, binning: int, scale: int, middle: float | None) -> tuple[int, int]:
    """The first pixel of a part of an axis, and how many there are, in whole squares."""
    if middle is None or not math.isfinite(middle):
        middle = (length - 1) / 2
    squares = math.ceil(length / binning)
    count = math.ceil(squares / scale)
    first = round((middle + 0.5) / binning - count / 2)
    return min(max(first, 0), squares - count) * binning, count * binning


def _clicks(box: Box, unit: float, scale: int) -> list[Click]:
    wide, high = box.columns / _CLICKS, box.rows / _CLICKS
    return [
        Click(
            round(i * wide * unit, 1),
            round((_CLICKS - 1 - j) * high * unit, 1),
            round(wide * unit, 1),
            round(high * unit, 1),
            Place(box.column + (i + 0.5) * wide - 0.5, box.row + (j + 0.5) * high - 0.5, scale),
        )
        for j in range(_CLICKS)
        for i in range(_CLICKS)
    ]
