"""The sky background and its noise, fitted on a mesh and evaluated anywhere, piece by piece.

The estimators are SExtractor's (Bertin & Arnouts 1996): the clipped mode of each mesh cell, a 3x3
median filter over the cells, and a natural bicubic spline through them. The fit looks at one row of
cells at a time, so an exposure of any size needs the memory of a few rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.image.mode import modes

Read = Callable[[slice, slice], tuple[Image, Mask]]
"""Reads some rows and columns of an image: float32 values, and bool, True for pixels to ignore."""

# SExtractor's share of usable pixels below which a cell is filled from its neighbours.
_MIN_USABLE = 0.5
_FILTER = 3


@dataclass(frozen=True, slots=True)
class Background:
    """Background and rms of an image, in its units.

    Attributes
    ----------
    rows, columns
        float64 (R,) and (C,), centres of the mesh cells, pixels.
    level, rms
        float64 (R, C), background and noise at the centres.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    level: NDArray[np.float64]
    rms: NDArray[np.float64]

    @classmethod
    def fit(cls, read: Read, shape: tuple[int, int], mesh: int) -> "Background":
        """Fit an image of ``shape``, on cells of ``mesh`` pixels."""
        row_edges, column_edges = (_edges(length, mesh) for length in shape)
        level = np.empty((len(row_edges) - 1, len(column_edges) - 1))
        rms = np.empty_like(level)
        for i, (low, high) in enumerate(pairwise(row_edges)):
            image, mask = read(slice(low, high), slice(0, shape[1]))
            level[i], rms[i] = modes(image, mask, column_edges, _MIN_USABLE)
        # A cell of one value says nothing of the noise.
        rms[rms == 0.0] = np.nan
        return cls(
            rows=_centres(row_edges),
            columns=_centres(column_edges),
            level=_smooth(level, otherwise=0.0),
            rms=_smooth(rms, otherwise=1.0),
        )

    def at(self, rows: slice, columns: slice) -> tuple[Image, Image]:
        """Background and rms of a piece of the image, float32 (rows, columns)."""
        down = _basis(tuple(self.rows), rows.start, rows.stop)
        across = _basis(tuple(self.columns), columns.start, columns.stop)
        level, rms = (
            down @ values.astype(np.float32) @ across.T for values in (self.level, self.rms)
        )
        return level, rms


def _edges(length: int, mesh: int) -> NDArray[np.intp]:
    """Borders of the cells; a rest of less than half a cell joins the one before it."""
    count = max(1, round(length / mesh))
    return np.array([*(i * mesh for i in range(count)), length])


def _centres(edges: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray((edges[:-1] + edges[1:] - 1.0) / 2.0)


def _smooth(values: NDArray[np.float64], *, otherwise: float) -> NDArray[np.float64]:
    """Fill cells that say nothing from the nearest that does, and median filter."""
    missing = np.isnan(values)
    if missing.all():
        return np.full_like(values, otherwise)
    if missing.any():
        nearest = ndimage.distance_transform_edt(
            missing, return_distances=False, return_indices=True
        )
        values = values[tuple(nearest)]
    filtered: NDArray[np.float64] = ndimage.median_filter(values, _FILTER, mode="nearest")
    return filtered


@lru_cache(maxsize=64)
def _basis(nodes: tuple[float, ...], start: int, stop: int) -> Image:
    """What each node contributes to each pixel, float32 (pixels, nodes)."""
    pixels = np.arange(start, stop, dtype=np.float64)
    if len(nodes) == 1:
        return np.ones((len(pixels), 1), np.float32)
    cubic = len(nodes) > 3
    spline = make_interp_spline(
        nodes, np.eye(len(nodes)), k=3 if cubic else 1, bc_type="natural" if cubic else None
    )
    basis: Image = spline(pixels).astype(np.float32)
    return basis
