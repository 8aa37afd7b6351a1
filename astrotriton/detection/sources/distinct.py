"""Joining spots into distinct sources, and telling which candidate belongs to which."""

from dataclasses import dataclass

import numpy as np

from astrotriton.detection.arrays import Indices
from astrotriton.detection.sources.matching import nearest
from astrotriton.detection.sources.peaks import suppress
from astrotriton.detection.sources.spots import Spots


@dataclass(frozen=True, slots=True)
class Sources:
    """The distinct sources of an exposure.

    Attributes
    ----------
    spots
        N sources: a spot of the network's, or a candidate that it has no peak for.
    candidate
        intp (N,), index of the candidate that stands for the source, -1 for none.
    owner
        intp (candidates,), index of the source that a candidate belongs to.
    """

    spots: Spots
    candidate: Indices
    owner: Indices


def distinct_sources(spots: Spots, candidates: int, radius: float) -> Sources:
    """Join the network's peaks and the candidates.

    A candidate within ``radius`` of a peak belongs to it, and the nearest one stands for it.
    Candidates without a peak are sources of their own, of which the less probable of two within the
    radius is merged into the other.

    Parameters
    ----------
    spots
        Peaks (``candidate`` -1) and candidates, each candidate once.
    candidates
        Number of candidates.
    radius
        The card's ``nms_radius``, pixels.
    """
    peaks = spots.take(spots.candidate < 0)
    # A peak beside a seam is read off both tiles.
    best = np.argsort(-np.nan_to_num(peaks.probability, nan=-1.0), kind="stable")
    peaks = peaks.take(best)
    survivors = suppress(peaks.positions, radius) == np.arange(len(peaks))
    peaks = peaks.take(survivors & np.isfinite(peaks.probability))

    asked = spots.take(spots.candidate >= 0)
    owner = np.full(candidates, -1, np.intp)
    stands_for = np.full(len(peaks), -1, np.intp)
    peak, distance = nearest(asked.positions, peaks.positions, radius)
    matched = peak >= 0
    owner[asked.candidate[matched]] = peak[matched]
    np.bitwise_or.at(peaks.sep_flags, peak[matched], asked.sep_flags[matched])
    # The farthest first, so that the nearest has the last word.
    for i in np.argsort(-distance, kind="stable"):
        if matched[i]:
            stands_for[peak[i]] = asked.candidate[i]
    asked = asked.take(~matched)

    asked = asked.take(np.argsort(-np.nan_to_num(asked.probability, nan=-1.0), kind="stable"))
    leader = suppress(asked.positions, radius)
    leads = leader == np.arange(len(asked))
    place = len(peaks) + np.cumsum(leads) - 1
    owner[asked.candidate] = place[leader]
    alone = asked.take(leads)
    return Sources(Spots.join([peaks, alone]), np.concatenate([stands_for, alone.candidate]), owner)
