"""Detections in the formats that astronomers' tools read."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord, Regions

from astrotriton.wire.columns import columns_of
from astrotriton.wire.detections import ScoredDetection

VOTABLE = "application/x-votable+xml"
ECSV = "application/x-ecsv"
DS9 = "application/x-ds9"

_RADIUS = 2.0 * u.arcsec


def _table(detections: Sequence[ScoredDetection], kind: type[ScoredDetection]) -> Table:
    """A row for each detection, columns as declared; what is unknown is masked."""
    table = Table()
    for column in columns_of(kind):
        values = [getattr(detection, column.name) for detection in detections]
        unknown = [value is None for value in values]
        known: list[Any] = [0 if value is None else value for value in values]
        if column.dtype == "str":
            known = [" ".join(v) if isinstance(v, tuple) else str(v or "") for v in values]
        table[column.name] = MaskedColumn(
            known, mask=unknown, dtype=np.dtype(column.dtype), unit=column.unit
        )
    table.meta["description"] = (
        "Pixels are 0-based, (0, 0) is the centre of the first; the sky is ICRS."
    )
    return table


def _votable(detections: Sequence[ScoredDetection], kind: type[ScoredDetection]) -> bytes:
    file = io.BytesIO()
    _table(detections, kind).write(file, format="votable")
    return file.getvalue()


def _ecsv(detections: Sequence[ScoredDetection], kind: type[ScoredDetection]) -> bytes:
    file = io.StringIO()
    _table(detections, kind).write(file, format="ascii.ecsv")
    return file.getvalue().encode()


def _ds9(detections: Sequence[ScoredDetection], kind: type[ScoredDetection]) -> bytes:
    """Circles, in the sky where it is known: green for real ones. What has no place has none."""
    circles = []
    for d in detections:
        text, colour = {"text": f"{d.rank}"}, {"color": "green" if d.is_real else "red"}
        if d.ra is not None and d.dec is not None:
            centre = SkyCoord(d.ra * u.deg, d.dec * u.deg, frame="icrs")
            circles.append(CircleSkyRegion(centre, _RADIUS, meta=text, visual=colour))
        elif d.x is not None and d.y is not None:
            circles.append(CirclePixelRegion(PixCoord(d.x, d.y), 4.0, meta=text, visual=colour))
    return str(Regions(circles).serialize(format="ds9")).encode()


#: By media type.
WRITERS: dict[str, Callable[[Sequence[ScoredDetection], type[ScoredDetection]], bytes]] = {
    VOTABLE: _votable,
    ECSV: _ecsv,
    DS9: _ds9,
}
