"""How far the noise around a pixel is from what the mesh says, which a step in it blurs."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrotriton.detection.arrays import Image, Mask, Positions, Values

_CELL = 16  # pixels
_LEAST_USABLE = 0.5  # share of a cell's pixels
# A median filter keeps a step where it is, and what it is over is more than a source covers.
_FILTER = 3
_LEAST = 0.1


class LocalNoise:
    """Scatter of the significance on small cells of a tile: 1 where the noise map is right.

    Parameters
    ----------
    significance, mask
        float32 and bool (H, W).
    """

    def __init__(self, significance: Image, mask: Mask) -> None:
        cells = _scatters(significance, mask).astype(np.float64)
        missing = np.isnan(cells)
        if missing.all():
            cells[:] = 1.0
        elif missing.any():
            nearest = ndimage.distance_transform_edt(
                missing, return_distances=False, return_indices=True
            )
            cells = cells[tuple(nearest)]
        self._cells = np.maximum(ndimage.median_filter(cells, _FILTER, mode="nearest"), _LEAST)

    def at(self, positions: Positions) -> Values:
        """The scatter around positions in the tile, float64 (N,)."""
        rows, columns = self._cells.shape
        column, row = (np.rint(positions) // _CELL).astype(np.intp).T
        found: Values = self._cells[row.clip(0, rows - 1), column.clip(0, columns - 1)]
        return found


def _scatters(significance: Image, mask: Mask) -> NDArray[np.float32]:
    """Scaled median absolute deviation of each cell; NaN with too few usable pixels.

    Every second column is enough. What is left over at the end of the tile is taken for as noisy as
    the last cell.
    """
    height, width = mask.shape
    rows, columns = max(1, height // _CELL), max(1, width // _CELL)
    down, across = min(height, _CELL), min(width, _CELL)
    usable = ~mask[: rows * down, : columns * across]
    values = np.where(usable, significance[: rows * down, : columns * across], np.inf)
    cells = values.reshape(rows, down, columns, across)[..., ::2]
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, -1).astype(np.float32)
    count = np.isfinite(cells).sum(axis=1)
    with np.errstate(invalid="ignore"):
        deviation = np.abs(cells - _median(cells, count)[:, None])
    # Infinite from infinite is no number, and sorts last as well.
    found = 1.4826 * _median(deviation, count)
    found[count < _LEAST_USABLE * cells.shape[1]] = np.nan
    return found.reshape(rows, columns)


def _median(cells: Image, count: NDArray[np.intp]) -> NDArray[np.float32]:
    """Of the first ``count`` values of each row, once sorted, float32 (N,)."""
    ordered = np.sort(cells, axis=1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, cells.shape[1] - 1)])
    found: NDArray[np.float32] = np.take_along_axis(ordered, middle.T, axis=1).mean(axis=1)
    return found
