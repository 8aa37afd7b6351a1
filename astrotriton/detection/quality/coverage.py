"""Whether the intervals of confidences hold."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from astrotriton.detection.arrays import Values
from astrotriton.detection.logits import logit
from astrotriton.detection.quality.evaluation import Sample

_COVERAGE_BINS = ((0.02, 0.3), (0.3, 0.7), (0.7, 0.98))


def interval_coverage(sample: Sample, field: NDArray[np.intp], scatter: float, seed: int) -> float:
    """How often the 90 % intervals hold.

    An interval speaks of the chance in this exposure, which shows in how many of the exposure's
    sources turn out real. For each exposure and three ranges of confidence the number that does is
    compared with the distribution that the intervals imply; it should lie in the central 90 % of it
    nine times in ten (randomised probability integral transform, Czado et al. 2009).
    """
    rng = np.random.default_rng(seed)
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    weights = weights / weights.sum()
    logits = logit(sample.score)
    inside = []
    for low, high in _COVERAGE_BINS:
        chosen = (sample.score >= low) & (sample.score < high)
        for number in range(sample.fields):
            members = chosen & (field == number)
            if not members.any():
                continue
            chances = expit(logits[members][:, None] + scatter * nodes)
            distribution = weights @ np.stack([_poisson_binomial(c) for c in chances.T])
            count = int(np.count_nonzero(sample.real[members]))
            below = distribution[:count].sum() + rng.random() * distribution[count]
            inside.append(0.05 <= below <= 0.95)
    return float(np.mean(inside))


def _poisson_binomial(chances: Values) -> Values:
    """Distribution of the number of successes of independent trials, float64 (N + 1,)."""
    distribution = np.ones(1)
    for chance in chances:
        distribution = np.convolve(distribution, [1.0 - chance, chance])
    return distribution
