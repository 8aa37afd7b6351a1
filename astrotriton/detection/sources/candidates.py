"""The sources to score: checked when the caller sends them, extracted when not."""

import math
from collections.abc import Sequence

import numpy as np
import sep
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Mask, Positions, Values
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.sources.centroids import PER_FWHM
from astrotriton.wire.detections import Candidate

_THRESHOLDS = (4.0, 8.0, 16.0, 64.0, 256.0)
_MIN_PIXELS = 3
_KERNEL_FWHM = 3.5


def check_candidates(
    candidates: Sequence[Candidate], shape: tuple[int, int], max_candidates: int
) -> None:
    """Refuse candidates that cannot be meant.

    Raises
    ------
    InputError
        ``candidate-invalid`` for a position that is not a number or an id used twice,
        ``candidate-outside`` for one off the image; the field is ``candidates[i].x`` or the like.
    TooLargeError
        If there are too many.
    """
    if len(candidates) > max_candidates:
        raise TooLargeError(
            "candidates", f"{len(candidates)} of them; at most {max_candidates} are taken"
        )
    seen: dict[str, int] = {}
    for i, candidate in enumerate(candidates):
        for axis, value, length in (("x", candidate.x, shape[1]), ("y", candidate.y, shape[0])):
            field = f"candidates[{i}].{axis}"
            if not math.isfinite(value):
                raise InputError("candidate-invalid", field, f"{value} is not a finite number")
            if not -0.5 <= value < length - 0.5:
                raise InputError(
                    "candidate-outside",
                    field,
                    f"{value} is off the image, whose pixels run from 0 to {length - 1} (0-based,"
                    " x along columns)",
                )
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
