"""The seeing that a header states, or a caller."""

import math
import re

import msgspec
from astropy.io import fits

from astrotriton.detection.errors import InputError
from astrotriton.wire.exposures import SeeingSource, SeeingUnit

#: Full widths at half maximum that are believed, pixels.
LEAST_FWHM, MOST_FWHM = 0.8, 25.0

# In the order in which they are believed, with the unit that they have where the comment says none:
# what a pipeline measured in the image, and never what a seeing monitor saw beside it.
_KEYWORDS: tuple[tuple[str, SeeingUnit], ...] = (
    ("PSF_FWHM", "px"),
    ("PSFFWHM", "px"),
    ("FWHM_PX", "px"),
    ("FWHM_PIX", "px"),
    ("FWHMPIX", "px"),
    ("FWHM_IMAGE", "px"),
    ("FWHM", "px"),
    ("MEDFWHM", "px"),
    ("MEANFWHM", "px"),
    ("AVGFWHM", "px"),
    ("L1FWHM", "arcsec"),
    ("FWHM_WORLD", "arcsec"),
    ("PSF_IQ", "arcsec"),
    ("SEEING", "arcsec"),
    ("IQ", "arcsec"),
    ("IQFINAL", "arcsec"),
)
_PIXELS = re.compile(r"\bpix(?:els?)?\b|\bpx\b", re.IGNORECASE)
_ARCSEC = re.compile(r"\barc-?\s?sec(?:onds?)?\b|\basec\b|\barcs\b|\[\s*\"|\[\s*''", re.IGNORECASE)


class Seeing(msgspec.Struct, frozen=True):
    """Full width at half maximum of point sources, pixels, and who says so."""

    fwhm: float
    source: SeeingSource


def seeing_of_header(header: fits.Header, scale: float | None) -> Seeing | None:
    """What the usual keywords state; None if none states something plausible.

    Parameters
    ----------
    header
        Of an image. A unit in a keyword's comment goes before the keyword's usual one.
    scale
        Side of a pixel, arcsec, if it is known: without it, arcseconds say nothing.
    """
    for keyword, usual in _KEYWORDS:
        try:
            value = header[keyword]
            comment = str(header.comments[keyword])
        except Exception:  # it is missing, or its card cannot be parsed
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        units = _units(comment, usual)
        for unit in units:
            fwhm = _in_pixels(float(value), unit, scale)
            if fwhm is not None and LEAST_FWHM <= fwhm <= MOST_FWHM:
                return Seeing(fwhm, "header")
    return None


def seeing_of_request(fwhm: float, unit: SeeingUnit, scale: float | None) -> Seeing:
    """What a caller states.

    Raises
    ------
    InputError
        ``no-wcs`` if arcseconds are given and the exposure has no WCS that says how large its
        pixels are, or ``seeing-range`` if it is narrower than 0.8 px or wider than 25 px.
    """
    pixels = _in_pixels(fwhm, unit, scale)
    if pixels is None:
        raise InputError(
            "no-wcs",
            "seeing_fwhm",
            "is in arcsec, and the exposure has no WCS that says how large its pixels are: give it"
            " in pixels, with seeing_unit px",
        )
    if not LEAST_FWHM <= pixels <= MOST_FWHM:
        raise InputError(
            "seeing-range",
            "seeing_fwhm",
            f"is {pixels:.3g} px; give a full width at half maximum of {LEAST_FWHM:g} to"
            f" {MOST_FWHM:g} px, and say in seeing_unit whether it is in px or arcsec",
        )
    return Seeing(pixels, "request")


def _units(comment: str, usual: SeeingUnit) -> tuple[SeeingUnit, ...]:
    """What a value may be in: what its comment says, or the usual unit before the other."""
    if _PIXELS.search(comment):
        return ("px",)
    if _ARCSEC.search(comment):
        return ("arcsec",)
    return (usual, "arcsec") if usual == "px" else (usual,)


def _in_pixels(value: float, unit: SeeingUnit, scale: float | None) -> float | None:
    if not math.isfinite(value):
        return None
    if unit == "px":
        return value
    return None if scale is None else value / scale
