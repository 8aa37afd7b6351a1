"""The celestial WCS of an image's header."""

import math
import re
from typing import Protocol

import numpy as np
from astropy.coordinates import ICRS, SkyCoord, angular_separation
from astropy.io import fits
from astropy.wcs import WCS, NoWcsKeywordsFoundError, Wcsprm
from astropy.wcs.utils import proj_plane_pixel_area, wcs_to_celestial_frame

from astrotriton.detection.arrays import Values
from astrotriton.wire.flags import Flag

# What Astropy reads beside wcslib: SIP, lookup tables, and in `_SCAMP` the polynomials of old
# versions of SCAMP, which call themselves TAN.
_BESIDE = re.compile(rb"(?:.{80})*?(?:[AB]P?_(?:ORDER|\d)|CPDIS|CPERR|D2IM|AXISCORR)", re.DOTALL)
_SCAMP = re.compile(rb"(?:.{80})*?PV\d", re.DOTALL)
_TAN = re.compile(rb"(?:.{80})*?CTYPE\d[^/]*-TAN", re.DOTALL)

_NEAR = 0.05  # pixels: how well a position must come back that was made pixels of
_MOST_SIP_ORDER = 9  # of what Shupe et al. (2005, ADASS XIV, 491) define


class Sky(Protocol):
    """Where the pixels of an image are in the sky."""

    @property
    def pixel_scale(self) -> float | None:
        """Side of a pixel of the same area at the reference point, arcsec; None if unknown."""

    def to_icrs(self, x: Values, y: Values) -> Values:
        """As the function `to_icrs`; NaN wherever that raises."""

    def from_icrs(self, ra: Values, dec: Values) -> Values:
        """As the function `from_icrs`; NaN wherever that raises."""


class SkyOfWcs:
    """What a WCS of Astropy says."""

    def __init__(self, wcs: WCS) -> None:
        self.wcs = wcs
        self.pixel_scale = pixel_scale(wcs)

    def to_icrs(self, x: Values, y: Values) -> Values:
        """As the function `to_icrs`; NaN wherever that raises."""
        try:
            return to_icrs(self.wcs, x, y)
        except Exception:  # a WCS that was parsed can still fail in wcslib, in a dozen ways
            return np.full((2, x.size), np.nan)

    def from_icrs(self, ra: Values, dec: Values) -> Values:
        """As the function `from_icrs`; NaN wherever that raises."""
        try:
            return from_icrs(self.wcs, ra, dec)
        except Exception:  # as above
            return np.full((2, ra.size), np.nan)


def read_wcs(header: fits.Header, cards: bytes | None) -> tuple[WCS | None, frozenset[Flag]]:
    """The celestial WCS of a header, and what is odd about it.

    Parameters
    ----------
    header
        Of an image.
    cards
        The same as it lies in the file, 80 bytes a card; None if it does not.

    Returns
    -------
    The WCS, and no flag; or None, and the flag ``no_wcs`` or ``bad_wcs`` (see `Exposure`).
    """
    try:
        _check_matrix(header)
        wcs = _by_astropy(header) if cards is None or _needs_astropy(cards) else _by_wcslib(cards)
        if not wcs.has_celestial:
            return None, frozenset({Flag.NO_WCS})
        if wcs.naxis != 2:
            wcs = wcs.celestial
        corner = to_icrs(wcs, np.zeros(1), np.zeros(1))
    except (Exception, MemoryError):  # wcslib's answer to some headers is MemoryError
        return None, frozenset({Flag.BAD_WCS})
    if not np.isfinite(corner).all():
        return None, frozenset({Flag.BAD_WCS})
    return wcs, frozenset()


def to_icrs(wcs: WCS, x: Values, y: Values) -> Values:
    """ICRS right ascension and declination, degrees (2, N), of 0-based pixel positions.

    NaN where the WCS has no answer. Distortions (SIP, TPV) are applied and any celestial frame is
    converted.

    Raises
    ------
    Exception
        Of almost any kind: a WCS that was parsed can still fail in wcslib or in its frame.
    """
    with np.errstate(all="ignore"):
        world = wcs.all_pix2world(x, y, 0)
    found = np.stack([world[wcs.wcs.lng] % 360.0, world[wcs.wcs.lat]])
    frame = wcs_to_celestial_frame(wcs)
    if not isinstance(frame, ICRS):  # or the conversion takes longer than all the rest
        sky = SkyCoord(*found, unit="deg", frame=frame).icrs
        found = np.stack([sky.ra.deg, sky.dec.deg])
    found[:, ~np.isfinite(found).all(axis=0)] = np.nan
    return found


def from_icrs(wcs: WCS, ra: Values, dec: Values) -> Values:
    """0-based x and y, pixels (2, N), of ICRS positions in degrees: what `to_icrs` takes back.

    NaN where the WCS has no answer, or one that it does not take back to the position: far from the
    exposure, a distortion can lead anywhere.

    Raises
    ------
    Exception
        As `to_icrs` does.
    """
    found = np.full((2, ra.size), np.nan)
    possible = np.flatnonzero(np.abs(dec) <= 90.0)
    if possible.size == 0:
        return found
    frame = wcs_to_celestial_frame(wcs)
    world = np.stack([ra[possible], dec[possible]])
    if not isinstance(frame, ICRS):
        there = SkyCoord(*world, unit="deg", frame="icrs").transform_to(frame).spherical
        world = np.stack([there.lon.deg, there.lat.deg])
    if wcs.wcs.lng > wcs.wcs.lat:
        world = world[::-1]
    with np.errstate(all="ignore"):
        pixels = np.stack(wcs.all_world2pix(*world, 0, quiet=True))
        ra_again, dec_again = to_icrs(wcs, *pixels)
        separation = angular_separation(
            *np.deg2rad([ra[possible], dec[possible], ra_again, dec_again])
        )
        scale = float(np.sqrt(proj_plane_pixel_area(wcs)))
        back = np.rad2deg(separation) < _NEAR * scale
    found[:, possible[back]] = pixels[:, back]
    return found


def pixel_scale(wcs: WCS) -> float | None:
    """Side of a pixel of the same area at the reference point, arcsec; None if it has none."""
    try:
        # As `proj_plane_pixel_area`, which would make two copies of the WCS.
        celestial = wcs if wcs.naxis == 2 else wcs.celestial
        area = abs(float(np.linalg.det(celestial.pixel_scale_matrix)))
        scale = 3600.0 * math.sqrt(area)
    except Exception:  # as `to_icrs`
        return None
    return scale if math.isfinite(scale) and scale > 0.0 else None


def _check_matrix(header: fits.Header) -> None:
    """Refuse a CD matrix with a row of zeros, which wcslib takes for 1 on the diagonal."""
    for row in (1, 2):
        given = [header.get(f"CD{row}_{column}") for column in (1, 2)]
        stated = [element for element in given if element is not None]
        if stated and not any(stated):
            raise ValueError(f"row {row} of its CD matrix is 0")


def _needs_astropy(cards: bytes) -> bool:
    scamp = _SCAMP.match(cards) is not None and _TAN.match(cards) is not None
    return scamp or _BESIDE.match(cards) is not None


def _by_astropy(header: fits.Header) -> WCS:
    # Astropy looks for a coefficient of every two powers up to the order that a header states.
    if any(header.get(f"{name}_ORDER", 0) > _MOST_SIP_ORDER for name in ("A", "B", "AP", "BP")):
        raise ValueError(f"SIP of an order beyond {_MOST_SIP_ORDER}")
    return WCS(header)


def _by_wcslib(cards: bytes) -> WCS:
    """What ``WCS(header)`` makes of it, which parses every card three times, in Python."""
    try:
        parameters = Wcsprm(header=cards, relax=True)
    except NoWcsKeywordsFoundError:
        parameters = Wcsprm()
    wcs = WCS(naxis=parameters.naxis)
    wcs.wcs = parameters
    wcs.fix()
    wcs.wcs.set()
    return wcs
