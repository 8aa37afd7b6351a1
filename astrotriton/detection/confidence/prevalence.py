"""The share of sources that are real: what it does to a confidence, and how it is estimated.

A confidence is calibrated on a population, of which some share is real. Where sources of either
kind look as they did there, and only their shares differ (label shift), the odds of every source
change by one factor. Saerens, Latinne & Decaestecker (2002, Neural Computation 14, 21) say how a
classifier's posteriors follow a new share, and how the share follows from the posteriors.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from astrotriton.detection.arrays import Values
from astrotriton.wire.confidence import PREVALENCES, Prevalence, PrevalenceEstimate

#: Borders of the bins in which log likelihood ratios are counted; what lies beyond is in the last.
LOG_RATIO_EDGES: Values = np.linspace(-16.0, 16.0, 129)

_NINETY = 1.6448536269514722  # half the width of the central 90 % of a normal, in sigma
_MOST_ERROR = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPrevalence:
    """The share of real sources that somebody states, or has estimated.

    Attributes
    ----------
    share
        Of all sources that are scored.
    source
        Who says it.
    estimate
        What it rests on; None if it was stated.
    """

    share: float
    source: Literal["request", "route"]
    estimate: PrevalenceEstimate | None = None

    def beside(self, calibrated: float) -> Prevalence:
        """What it is to a confidence that was calibrated on another share."""
        return Prevalence(
            share=self.share,
            calibrated=calibrated,
            shift=shift(calibrated, self.share),
            error=0.0 if self.estimate is None else self.estimate.error,
            source=self.source,
            estimate=self.estimate,
        )


def shift(calibrated: float, share: float) -> float:
    """What is added to the log odds of every source (Saerens et al. 2002, eq. 4, as log odds)."""
    return float(logit(share) - logit(calibrated))


def bins(log_ratios: Values) -> NDArray[np.intp]:
    """The bin of each log likelihood ratio (N,) between `LOG_RATIO_EDGES`."""
    place = np.searchsorted(LOG_RATIO_EDGES, log_ratios, side="right") - 1
    return np.asarray(np.clip(place, 0, len(LOG_RATIO_EDGES) - 2))


def counted(log_ratios: Values, exposure: NDArray[np.intp], exposures: int) -> Values:
    """How many sources of each exposure are in each bin, float64 (exposures, bins).

    Parameters
    ----------
    log_ratios
        Of N sources: the calibrated logit less that of the share that it was calibrated on.
    exposure
        intp (N,), from 0 on.
    exposures
        How many there are.
    """
    table = np.zeros((exposures, len(LOG_RATIO_EDGES) - 1))
    np.add.at(table, (exposure, bins(log_ratios)), 1.0)
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """A share of real sources, and how sure it is.

    Attributes
    ----------
    share, low, high
        The most likely one, and the central 90 %.
    error
        Standard error of its log odds.
    """

    share: float
    low: float
    high: float
    error: float


def estimate(counts: Values) -> Estimated:
    """The most likely share of real sources in some exposures.

    This is the share that the expectation-maximisation of Saerens et al. (2002) ends at: the mean
    of the posteriors that it implies, with half a source of either kind more (Jeffreys' prior), so
    that a share is never 0. There is one maximum, so it is solved for at once. The error is that of
    independent exposures and not of independent sources (a sandwich with exposures as clusters),
    because sources of one exposure are alike.

    Parameters
    ----------
    counts
        Of `counted`, float64 (exposures, bins).
    """
    log_ratios = (LOG_RATIO_EDGES[:-1] + LOG_RATIO_EDGES[1:]) / 2.0
    total = counts.sum(axis=0)

    def posteriors(log_odds: float) -> Values:
        return np.asarray(expit(log_ratios + log_odds))

    def excess(log_odds: float) -> float:
        share = float(expit(log_odds))
        return float(total @ (posteriors(log_odds) - share)) + 0.5 - share

    least, most = (float(logit(one)) for one in PREVALENCES)
    # The excess is the slope of the likelihood, which rises, and then falls.
    if excess(least) <= 0.0:
        log_odds = least
    elif excess(most) >= 0.0:
        log_odds = most
    else:
        log_odds = float(brentq(excess, least, most))
    share, each = float(expit(log_odds)), posteriors(log_odds)
    information = float(total @ (share * (1.0 - share) - each * (1.0 - each)))
    scores = counts @ (each - share)
    clusters = max(len(counts), 2)
    variance = float(np.sum((scores - scores.mean()) ** 2)) * clusters / (clusters - 1)
    error = _MOST_ERROR
    if information > 0.0:
        error = min(np.sqrt(max(variance, information)) / information, _MOST_ERROR)
    return Estimated(
        share=share,
        low=float(np.clip(expit(log_odds - _NINETY * error), *PREVALENCES)),
        high=float(np.clip(expit(log_odds + _NINETY * error), *PREVALENCES)),
        error=float(error),
    )
