"""How far the noise around a pixel is from what the mesh says, which a step in it blurs."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrotriton.detection.arrays import Image, Mask, Positions, Values
from astrotriton.detection.compiled import compiled

_CELL = 16  # pixels
_LEAST_USABLE = _CELL**2 // 2
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
        cells = _scatters(significance, mask, _CELL, _LEAST_USABLE)
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


@compiled
def _scatters(significance: Image, mask: Mask, cell: int, least_usable: int) -> NDArray[np.float64]:
    """Scaled median absolute deviation of each cell; NaN with too few usable pixels."""
    height, width = mask.shape
    rows, columns = max(1, height // cell), max(1, width // cell)
    found = np.full((rows, columns), np.nan)
    values = np.empty(4 * cell * cell, np.float32)
    for row in range(rows):
        # What is left over at the end joins the last cell.
        bottom = height if row == rows - 1 else (row + 1) * cell
        for column in range(columns):
            right = width if column == columns - 1 else (column + 1) * cell
            count = 0
            for i in range(row * cell, bottom):
                for j in range(column * cell, right):
                    if not mask[i, j]:
                        values[count] = significance[i, j]
                        count += 1
            if count < least_usable:
                continue
            middle = np.median(values[:count])
            found[row, column] = 1.4826 * np.median(np.abs(values[:count] - middle))
    return found
