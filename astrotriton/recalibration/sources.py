"""Sources that people labelled, and what they stand for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Flags, Values

_LEAST_IN_BIN = 8
_MOST_BINS = 12
# A source stands for at most so many times as many as the mean one does.
_MOST_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class LabelledSources:
    """Sources that people called real or an artefact, and all that were scored beside them.

    Attributes
    ----------
    table
        float64 (N, features), in the order of the confidence model, NaN where unknown.
    real
        bool (N,).
    exposure
        intp (N,), from 0 on: of which exposure each is.
    answered
        float64 (N,), logit of the confidence that was answered.
    population
        float64 (M,), the same of every source of those exposures, labelled or not.
    """

    table: Values
    real: Flags
    exposure: NDArray[np.intp]
    answered: Values
    population: Values

    @property
    def exposures(self) -> int:
        """How many there are."""
        return len(np.unique(self.exposure))


@dataclass(frozen=True, slots=True)
class Weights:
    """How many sources each labelled one stands for.

    Attributes
    ----------
    values
        float64 (N,), 1 in the mean.
    clipped
        How many would stand for more than they are let.
    effective
        As many labels of equal weight say as much (Kish 1965).
    unspoken
        Share of all sources that are surer, or less sure, of being real than any labelled one.
    """

    values: Values
    clipped: int
    effective: float
    unspoken: float


def weigh(sources: LabelledSources) -> Weights:
    """Weigh labelled sources by how seldom ones like them were labelled.

    People label what looks interesting. The chance that a source was labelled is taken to depend on
    the confidence that was answered alone, and counted in bins of it; the weight is its inverse
    (Horvitz & Thompson 1952), clipped and scaled to a mean of 1.
    """
    bins = min(_MOST_BINS, max(len(sources.real) // _LEAST_IN_BIN, 1))
    inner = np.unique(np.quantile(sources.answered, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    of_labelled = np.searchsorted(inner, sources.answered, side="right")
    of_all = np.searchsorted(inner, sources.population, side="right")
    labelled = np.bincount(of_labelled, minlength=len(inner) + 1)
    everything = np.bincount(of_all, minlength=len(inner) + 1)
    stands_for = everything / np.maximum(labelled, 1)
    values = stands_for[of_labelled] / np.mean(stands_for[of_labelled])
    clipped = int(np.count_nonzero(values > _MOST_WEIGHT))
    values = np.minimum(values, _MOST_WEIGHT)
    values /= values.mean()
    beyond = (sources.population < sources.answered.min()) | (
        sources.population > sources.answered.max()
    )
    return Weights(
        values=values,
        clipped=clipped,
        effective=float(values.sum() ** 2 / np.sum(values**2)),
        unspoken=float(np.mean(beyond)),
    )
