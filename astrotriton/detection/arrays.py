"""The arrays that the science passes on, by what they hold. All are NumPy arrays.

==========  =========  ==========  ==============================================================
name        dtype      shape       what
==========  =========  ==========  ==============================================================
Image       float32    (H, W), ..  pixels: counts, sigma or probabilities, as the docstring says
Mask        bool       (H, W)      True: unusable
Stamps      float16    (N, 25, 25) pixels around sources, in sigma
Positions   float64    (N, 2)      0-based pixels, x then y
Values      float64    (N,), ...   one number a source, or a table of them
Flags       bool       (N,)        one truth value a source
Indices     intp       (N,)        places in another array; -1 for none where the docstring says so
Polarities  int8       (N,)        1: lies above the background, -1: below it
==========  =========  ==========  ==============================================================

A `Buffer` is a whole file in memory: its bytes, or a view of those that another process wrote.
"""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stamps = NDArray[np.float16]
Positions = NDArray[np.float64]
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Polarities = NDArray[np.int8]

Buffer = bytes | memoryview

#: Of a stamp, pixels: from its middle to its edge, and its side.
STAMP_RADIUS = 12
STAMP_SIDE = 2 * STAMP_RADIUS + 1
