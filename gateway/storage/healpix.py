"""Where detections are in the sky, as numbers that an ordinary index can search.

A position's cell is its HEALPix pixel of order 29 in nested order, the one that Gaia's source ids
and HATS catalogues start with. Cells that lie together in the sky have numbers that lie together,
so a cone is a few ranges of numbers: neither the poles nor RA 0 are special, and no database
extension is needed.
"""

from collections.abc import Sequence

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix, pixel_resolution_to_nside

_ORDER = 29
_NO_CENTRE = 1e-6  # of a mean unit vector: positions on all sides
_ROUNDING = 1e-9  # degrees
_PIXELS = HEALPix(nside=2**_ORDER, order="nested")


def cells(ra: Sequence[float], dec: Sequence[float]) -> list[int]:
    """The cells of positions in ICRS degrees."""
    found = _PIXELS.lonlat_to_healpix(np.asarray(ra) * u.deg, np.asarray(dec) * u.deg)
    return [int(cell) for cell in np.atleast_1d(found)]


def enclosing(ra: Sequence[float], dec: Sequence[float]) -> tuple[float, float, float] | None:
    """A circle in the sky that holds positions: its centre and radius; None if there are none.

    The centre is the mean of the unit vectors, so neither the poles nor RA 0 are special.

    Parameters
    ----------
    ra, dec
        ICRS degrees, as all that is returned.
    """
    if not len(ra):
        return None
    lon, lat = np.radians(ra), np.radians(dec)
    places = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    mean = places.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < _NO_CENTRE:
        return 0.0, 0.0, 180.0
    centre = mean / length
    # By the chord, which is exact for small angles too.
    chord = np.linalg.norm(places - centre, axis=-1).max()
    radius = 2 * np.degrees(np.arcsin(min(float(chord) / 2, 1.0)))
    at_ra = float(np.degrees(np.arctan2(centre[1], centre[0]))) % 360.0
    at_dec = float(np.degrees(np.arcsin(np.clip(centre[2], -1.0, 1.0))))
    return at_ra, at_dec, min(radius + _ROUNDING, 180.0)


def cone(ra: float, dec: float, radius: float) -> tuple[list[int], list[int]]:
    """First and last cells of ranges that cover a cone; they hold positions outside it too.

    Parameters
    ----------
    ra, dec, radius
        ICRS degrees.
    """
    # Pixels about as wide as the cone: some ten of them cover it, with little around it.
    nside = min(int(pixel_resolution_to_nside(radius * u.deg, round="up")), 2**_ORDER)
    coarse = HEALPix(nside=nside, order="nested")
    pixels = np.sort(coarse.cone_search_lonlat(ra * u.deg, dec * u.deg, radius * u.deg))
    shift = 2 * (_ORDER - nside.bit_length() + 1)
    gaps = np.flatnonzero(np.diff(pixels) > 1)
    first = pixels[np.concatenate([[0], gaps + 1])].astype(np.int64) << shift
    last = ((pixels[np.concatenate([gaps, [-1]])].astype(np.int64) + 1) << shift) - 1
    return first.tolist(), last.tolist()
