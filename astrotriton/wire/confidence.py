"""Confidences: how one came about, and what is guaranteed of those called real."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

#: Least and largest share of real sources that can be stated.
PREVALENCES = (1e-6, 1.0 - 1e-6)

#: A share of real sources among all that are scored.
Share = Annotated[float, Meta(ge=PREVALENCES[0], le=PREVALENCES[1])]

#: What a request may say of it: a share, or whose it shall be.
AskedPrevalence = Share | Literal["estimated", "calibrated"]


class PrevalenceEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """A share of real sources, estimated over exposures scored lately.

    Attributes
    ----------
    share, low, high
        The most likely share, and the central 90 %.
    error
        Standard error of its log odds.
    exposures, sources
        What it rests on.
    extracted
        Whether these are exposures whose candidates the gateway extracted, or whose candidates
        were sent: of those another share is real.
    since, until
        When the first and the last of them was scored.
    estimated_at
        When that was.
    """

    share: float
    low: float
    high: float
    error: float
    exposures: int
    sources: int
    extracted: bool
    since: datetime
    until: datetime
    estimated_at: datetime


class Prevalence(msgspec.Struct, frozen=True, kw_only=True):
    """The share of real sources that the confidences of a run hold for.

    Attributes
    ----------
    share
        Of all sources that are scored, as it is stated or estimated.
    calibrated
        The share that the confidence was calibrated on.
    shift
        What is added to the calibrated logit of each source: the log odds of ``share`` less those
        of ``calibrated`` (Saerens, Latinne & Decaestecker 2002).
    error
        Standard error of ``shift``; 0 where the share is stated. It widens the intervals.
    source
        Whether the request or the route says it.
    estimate
        What it rests on, where it is estimated.
    """

    share: float
    calibrated: float
    shift: float
    error: float = 0.0
    source: Literal["request", "route"]
    estimate: PrevalenceEstimate | None = None


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
    prevalence
        The share of real sources that it holds for in place of that of ``fitted_on``: its ``shift``
        is added to ``logit``, and its ``error`` to ``scatter``, in squares.
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
    prevalence: Prevalence | None = None


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
