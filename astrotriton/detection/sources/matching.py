"""Which positions of two lists are the same source."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from astrotriton.detection.arrays import Indices, Positions, Values


class Nearest(NamedTuple):
    """For each position the nearest of others.

    Attributes
    ----------
    which
        intp (N,), which one; -1 where none is near enough.
    distance
        float64 (N,), pixels; infinite where none is near enough.
    """

    which: Indices
    distance: Values


def nearest(positions: Positions, others: Positions, radius: float = np.inf) -> Nearest:
    """Find the nearest of other positions; several positions may have the same one.

    Parameters
    ----------
    positions
        float64 (N, 2), pixels.
    others
        float64 (M, 2), pixels.
    radius
        Largest distance, pixels.
    """
    if len(positions) == 0 or len(others) == 0:
        none = np.full(len(positions), -1, np.intp)
        return Nearest(none, np.full(len(positions), np.inf))
    distance, index = map(np.asarray, KDTree(others).query(positions, distance_upper_bound=radius))
    return Nearest(np.where(np.isfinite(distance), index, -1).astype(np.intp), distance)


def isolation(positions: Positions) -> Values:
    """Distance of each position to the nearest of the rest, float64 (N,) pixels; infinite alone."""
    if len(positions) < 2:
        return np.full(len(positions), np.inf)
    return np.asarray(KDTree(positions).query(positions, k=2)[0], np.float64)[:, 1]


def match(found: Positions, score: Values, truth: Positions, radius: float) -> Indices:
    """Match one to one, the best score first, each with the nearest truth that is still free.

    Parameters
    ----------
    found, score
        float64 (N, 2), pixels, and float64 (N,).
    truth
        float64 (M, 2), pixels.
    radius
        Largest distance of a match, pixels.

    Returns
    -------
    intp (N,)
        Index of the truth, -1 for none.
    """
    matched = np.full(len(found), -1, np.intp)
    if len(found) == 0 or len(truth) == 0:
        return matched
    near = KDTree(truth).query_ball_point(found, radius)
    taken = np.zeros(len(truth), bool)
    for i in np.argsort(-score, kind="stable"):
        free = [j for j in near[i] if not taken[j]]
        if free:
            best = min(free, key=lambda j: float(np.hypot(*(truth[j] - found[i]))))
            matched[i] = best
            taken[best] = True
    return matched
