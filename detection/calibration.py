"""Making a confidence mean what it says: a monotone map, and how far it may be off."""

from typing import Literal

import msgspec
import numpy as np
from scipy.special import expit

from detection.spots import Values

_NINETY = 1.6448536269514722  # half the width of the central 90 % of a normal, in sigma


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A monotone map from a regression's score to a calibrated one, both logits.

    Attributes
    ----------
    method
        What it was fitted with. ``none``: the regression's own score was best. The choice is made
        by log loss on fields that neither fit has seen.
    score, calibrated
        Knots of the map, ascending; between them it is linear, beyond them it goes on in parallel.
    """

    method: Literal["none", "temperature", "beta", "isotonic"]
    score: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __call__(self, score: Values) -> Values:
        """Calibrated logits, float64 (N,)."""
        low, high = self.score[0], self.score[-1]
        inside = np.interp(score, self.score, self.calibrated)
        return np.asarray(inside + np.minimum(score - low, 0.0) + np.maximum(score - high, 0.0))


def interval(logits: Values, scatter: float) -> tuple[Values, Values]:
    """The central 90 % of the chance that a source is real, over exposures.

    Sources that score alike are not equally often real in every exposure: seeing, crowding and the
    share of artefacts differ. The scatter of the logit between exposures is fitted with the
    calibration (a logistic model with a random effect of the exposure).

    Parameters
    ----------
    logits
        Calibrated, float64 (N,).
    scatter
        Standard deviation of the logit between exposures.

    Returns
    -------
    low, high
        Probabilities, float64 (N,).
    """
    return np.asarray(expit(logits - _NINETY * scatter)), np.asarray(
        expit(logits + _NINETY * scatter)
    )


def entropy(confidence: Values) -> Values:
    """Predictive entropy in bits, float64 (N,): 0 for certainty, 1 for a coin toss."""
    p = np.clip(confidence, 1e-12, 1.0 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1.0 - p) * np.log2(1.0 - p)))
