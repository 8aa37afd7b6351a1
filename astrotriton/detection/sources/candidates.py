"""The sources to score: placed on the exposure when the caller sends them, extracted when not."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import sep
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Positions, Values
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.sources.centroids import PER_FWHM
from astrotriton.wire.detections import Candidate, UnscoredReason

_THRESHOLDS = (4.0, 8.0, 16.0, 64.0, 256.0)
_MIN_PIXELS = 3
_KERNEL_FWHM = 3.5


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A candidate that lies nowhere on the exposure, and why."""

    candidate: Candidate
    reason: UnscoredReason


def place_candidates(
    candidates: Sequence[Candidate], exposure: Exposure, max_candidates: int
) -> tuple[list[Candidate], list[Unplaced]]:
    """Tell the candidates that lie on the exposure, each with its pixels, from the others.

    A position in the sky is made one in pixels by the exposure's WCS.

    Returns
    -------
    Those that can be scored, and those that cannot, each in the order that they were sent in.

    Raises
    ------
    InputError
        ``candidate-invalid`` for an id used twice; the field is ``candidates[i].id``.
    TooLargeError
        If there are too many.
    """
    if len(candidates) > max_candidates:
        raise TooLargeError(
            "candidates", f"{len(candidates)} of them; at most {max_candidates} are taken"
        )
    _check_ids(candidates)
    given = np.array([(c.x, c.y, c.ra, c.dec) for c in candidates], np.float64).reshape(-1, 4)
    pixels = given[:, :2].copy()
    in_sky = np.asarray(~np.isfinite(pixels).all(axis=1) & np.isfinite(given[:, 2:]).all(axis=1))
    if exposure.sky_of is not None and in_sky.any():
        ra, dec = given[in_sky, 2], given[in_sky, 3]
        pixels[in_sky] = exposure.pixels_of(ra, dec).T
    known = np.asarray(np.isfinite(pixels).all(axis=1))
    height, width = exposure.shape
    on_image = known & np.asarray(
        ((pixels >= -0.5) & (pixels < (width - 0.5, height - 0.5))).all(axis=1)
    )
    placed, unplaced = [], []
    for candidate, (x, y), on, has_pixels, sky in zip(
        candidates, pixels.tolist(), on_image, known, in_sky, strict=True
    ):
        if on:
            placed.append(msgspec.structs.replace(candidate, x=x, y=y) if sky else candidate)
            continue
        reason: UnscoredReason = "off_image" if has_pixels or sky else "not_a_number"
        if sky and exposure.sky_of is None:
            reason = "no_wcs"
        unplaced.append(Unplaced(candidate, reason))
    return placed, unplaced


def _check_ids(candidates: Sequence[Candidate]) -> None:
    seen: dict[str, int] = {}
    for i, candidate in enumerate(candidates):
        first = seen.setdefault(candidate.id, i)
        if first != i:
            raise InputError(
                "candidate-invalid",
                f"candidates[{i}].id",
                f"{candidate.id!r} is also the id of candidates[{first}]; ids must be unique",
            )


def extract(significance: Image, mask: Mask) -> tuple[Positions, Values, NDArray[np.int32]]:
    """Find sources with SEP: matched filter with a PSF-like kernel, 4 sigma, 3 connected pixels.

    In a field too crowded for that the threshold rises until the brightest sources fit.

    Parameters
    ----------
    significance
        float32 (H, W), sigma; 0 where masked.
    mask
        bool (H, W), True for pixels to ignore.

    Returns
    -------
    positions
        float64 (N, 2), x and y, 0-based pixels.
    brightness
        float64 (N,), isophotal flux, sigma of a pixel.
    flags
        int32 (N,), SEP's: 1 deblended from a neighbour, 2 cut off by the edge, 4 too complex to
        deblend, 8 all in one line.
    """
    for threshold in _THRESHOLDS:
        try:
            found = sep.extract(
                significance,
                threshold,
                err=np.ones_like(significance),
                mask=mask,
                minarea=_MIN_PIXELS,
                filter_kernel=_kernel(),
                filter_type="matched",
            )
        except Exception as error:  # SEP has no exception of its own
            if "pixel buffer" in str(error) or "sub-objects" in str(error):
                continue
            raise
        positions = np.stack([found["x"], found["y"]], axis=1)
        good = np.isfinite(positions).all(axis=1)
        flags = found["flag"][good].astype(np.int32)
        return positions[good], found["flux"][good].astype(np.float64), flags
    return np.empty((0, 2)), np.empty(0), np.zeros(0, np.int32)


def _kernel() -> Values:
    grid = np.arange(-3.0, 4.0)
    sigma = _KERNEL_FWHM / PER_FWHM
    profile = np.exp(-0.5 * (grid / sigma) ** 2)
    return np.outer(profile, profile)
