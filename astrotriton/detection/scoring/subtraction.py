"""Whether an exposure looks like a difference at all, judged by all of its sources together."""

import numpy as np
from scipy.special import bdtr

from astrotriton.detection.arrays import Values
from astrotriton.detection.sources.spots import Spots

_SURE = 0.5
_TILE = 512 * 512  # pixels
# A good difference of the simulation, transients left out, has at most so many sources a tile that
# look real; and of a fair coin's throws, sides are as unequal as this once in a million exposures.
_MOST_PER_TILE = 8.0
_LEAST_CHANCE = 1e-6


def subtraction_is_suspect(spots: Spots, confidence: Values, shape: tuple[int, int]) -> bool:
    """Whether so many sources look real, and so many of one sign, that stars were left over.

    With the wrong flux scale every star leaves a clean point source of the same sign, each of which
    looks real by itself; in an image that is no difference, every star does. What brightens and
    what fades is otherwise about as frequent.

    Parameters
    ----------
    spots, confidence
        The sources, and float64 (N,).
    shape
        Rows and columns of the exposure, pixels.
    """
    signs = spots.polarity[confidence >= _SURE]
    tiles = max(shape[0] * shape[1] / _TILE, 1.0)
    if len(signs) <= _MOST_PER_TILE * tiles:
        return False
    rarer = int(min(np.count_nonzero(signs > 0), np.count_nonzero(signs < 0)))
    return bool(2.0 * bdtr(rarer, len(signs), 0.5) < _LEAST_CHANCE)
