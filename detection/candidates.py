"""The sources to score: checked when the caller sends them, extracted when not."""

import math
from collections.abc import Sequence

import numpy as np
import sep

from detection.errors import InputError, TooLargeError
from detection.preprocess import Normalised
from detection.types import Candidate

_THRESHOLDS = (4.0, 8.0, 16.0, 64.0, 256.0)
_MIN_PIXELS = 3
_KERNEL_FWHM = 3.5

# SEP's buffer for pixels above the threshold; its default overflows in a crowded field.
sep.set_extract_pixstack(3_000_000)


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


def extract_candidates(exposure: Normalised, max_candidates: int) -> list[Candidate]:
    """Find candidates with SEP: matched filter with a PSF-like kernel, 4 sigma, 3 connected pixels.

    In a field too crowded for that the threshold rises until the brightest sources fit.

    Returns
    -------
    list of Candidate
        Brightest first, at most ``max_candidates``; ids ``sep-1``, ``sep-2``, ...
    """
    for threshold in _THRESHOLDS:
        try:
            found = sep.extract(
                exposure.significance,
                threshold,
                err=np.ones_like(exposure.significance),
                mask=exposure.mask,
                minarea=_MIN_PIXELS,
                filter_kernel=_kernel(),
                filter_type="matched",
            )
        except Exception as error:  # SEP has no exception of its own
            if "pixel buffer" in str(error) or "sub-objects" in str(error):
                continue
            raise
        height, width = exposure.mask.shape
        inside = (
            np.isfinite(found["x"])
            & np.isfinite(found["y"])
            & (found["x"] >= 0)
            & (found["x"] <= width - 1)
            & (found["y"] >= 0)
            & (found["y"] <= height - 1)
        )
        found = found[inside]
        order = np.argsort(-found["flux"])[:max_candidates]
        return [
            Candidate(id=f"sep-{rank}", x=float(found["x"][i]), y=float(found["y"][i]))
            for rank, i in enumerate(order, start=1)
        ]
    return []


def _kernel() -> np.ndarray:
    grid = np.arange(-3.0, 4.0)
    sigma = _KERNEL_FWHM / 2.3548
    profile = np.exp(-0.5 * (grid / sigma) ** 2)
    kernel: np.ndarray = np.outer(profile, profile)
    return kernel
