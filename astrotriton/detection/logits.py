"""Logits of probabilities that come as float32."""

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Values

# A float32 sigmoid saturates: beyond this the logit says nothing more.
_LEAST = 1e-6


def logit(probability: NDArray[np.floating]) -> Values:
    """log(p / (1 - p)), with p kept from 0 and 1 by 1e-6."""
    p = np.clip(probability.astype(np.float64), _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(p / (1.0 - p)))
