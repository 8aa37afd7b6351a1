"""Making a confidence mean what it says: a monotone map, and how far it may be off."""

import numpy as np
from scipy.special import expit

from astrotriton.detection.arrays import Values
from astrotriton.wire.confidence import CalibrationMap

_NINETY = 1.6448536269514722  # half the width of the central 90 % of a normal, in sigma


def apply_calibration(score: Values, calibration: CalibrationMap) -> Values:
    """Calibrated logits, float64 (N,), of a regression's scores, logits too."""
    low, high = calibration.score[0], calibration.score[-1]
    inside = np.interp(score, calibration.score, calibration.calibrated)
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
