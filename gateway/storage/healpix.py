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
_PIXELS = HEALPix(nside=2**_ORDER, order="nested")


def cells(ra: Sequence[float], dec: Sequence[float]) -> list[int]:
    """The cells of positions in ICRS degrees."""
    found = _PIXELS.lonlat_to_healpix(np.asarray(ra) * u.deg, np.asarray(dec) * u.deg)
    return [int(cell) for cell in np.atleast_1d(found)]


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
