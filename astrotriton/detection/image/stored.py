"""The pixels of an image as a file stores them, turned into physical values piece by piece."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class StoredPixels:
    """Pixels where they lie, and what they mean (FITS Standard 4.0, 4.4.2.5 and 4.4.2.7).

    Attributes
    ----------
    array
        Integers or real numbers (H, W), of any byte order and any strides.
    scale, zero
        ``BSCALE`` and ``BZERO``: a value is ``array * scale + zero``.
    blank
        ``BLANK``: the integer that means there is no value.
    """

    array: NDArray[Any]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.array.shape
        return rows, columns

    def __call__(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Physical values of some rows and columns; NaN where they are blank."""
        stored = self.array[rows, columns]
        if (self.scale, self.zero, self.blank) == (1.0, 0.0, None):
            return stored
        # Unsigned integers are stored with their highest bit turned (the same, table 11). Turned
        # back they are exact, where the sum in float64 keeps 53 bits.
        lowest = -(2.0 ** (8 * stored.dtype.itemsize - 1))
        physical: NDArray[Any]
        if stored.dtype.kind == "i" and (self.scale, self.zero) == (1.0, -lowest):
            native = stored.astype(stored.dtype.newbyteorder("="))
            turned = native ^ native.dtype.type(lowest)
            physical = turned.view(f"u{turned.itemsize}")
        else:
            physical = stored * self.scale + self.zero
        return physical if self.blank is None else np.where(stored == self.blank, np.nan, physical)
