"""Confidences: how one came about, and what is guaranteed of those called real."""

from typing import Literal

import msgspec


class CalibrationMap(msgspec.Struct, frozen=True, kw_only=True):
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


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature adds to the score: weight * (value - mean) / scale; 0 if it is unknown."""

    name: str
    value: float | None
    mean: float
    scale: float
    weight: float
    contribution: float


class Derivation(msgspec.Struct, frozen=True, kw_only=True):
    """How a confidence came about, step by step.

    Attributes
    ----------
    terms, intercept
        Their sum is ``score``, the regression's logit.
    calibration_id, calibration
        The map from ``score`` to ``logit``, and the start of its SHA-256.
    logit, scatter
        The calibrated logit, and its standard deviation between exposures.
    confidence, low, high
        The calibrated probability, and the central 90 % of it over exposures.
    fitted_on
        The population that it holds for.
    """

    terms: tuple[Term, ...]
    intercept: float
    score: float
    calibration_id: str
    calibration: CalibrationMap
    logit: float
    scatter: float
    confidence: float
    low: float
    high: float
    fitted_on: str


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised of the detections called real.

    Attributes
    ----------
    max_false_discovery_rate
        The level: the expected share of false ones among those called real, per exposure.
    threshold
        The confidence from which a detection is called real, so that the level is kept.
    confidence_level
        Probability, over the draw of the calibration exposures, that the promise holds.
    exposures
        Number of calibration exposures behind it.
    assumption
        What must be true for it to hold.
    """

    max_false_discovery_rate: float
    threshold: float
    confidence_level: float
    exposures: int
    assumption: str = (
        "the exposure is exchangeable with the calibration exposures: the same kind of noise,"
        " seeing, artefacts and share of real sources"
    )
