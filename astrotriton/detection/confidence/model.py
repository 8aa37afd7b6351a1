"""From the network's probability and the source's measurements to a confidence."""

import hashlib
import math
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from astrotriton.detection.arrays import Values
from astrotriton.detection.confidence.calibration import apply_calibration, interval
from astrotriton.detection.confidence.guarantee import (
    Discoveries,
    RiskCurve,
    shifted_guarantee,
)
from astrotriton.wire.confidence import CalibrationMap, Derivation, Guarantee, Prevalence, Term


class Outliers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is unlike anything that the confidence was fitted on.

    Attributes
    ----------
    precision
        Inverse covariance of the standardised features, row by row.
    limit
        Largest squared Mahalanobis distance of what belongs: 99.9 % of the calibration sources.
    """

    precision: tuple[tuple[float, ...], ...]
    limit: float

    def __call__(self, table: Values) -> NDArray[np.bool_]:
        """Which rows of standardised features (N, F) lie outside, bool (N,)."""
        return np.asarray(squared_distance(table, np.asarray(self.precision)) > self.limit)


def squared_distance(table: Values, precision: Values) -> Values:
    """Squared Mahalanobis distance from the mean of standardised features, float64 (N,)."""
    return np.asarray(np.einsum("ni,ij,nj->n", table, precision, table))


class ConfidenceModel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A logistic regression on standardised `features`, calibrated.

    Attributes
    ----------
    names
        The features, in the order of the other fields.
    mean, scale
        A feature enters as (value - mean) / scale; an unknown one as 0, which is the average.
    weights, intercept
        Of the standardised features.
    calibration
        From the regression's logit to the calibrated one.
    scatter
        Standard deviation of the calibrated logit between exposures.
    outliers
        What is out of distribution.
    risk
        What a false discovery rate can be vouched for with; without thresholds: `discoveries`.
    fitted_on
        What the model was fitted on, in words, with the share of real sources in it: a confidence
        holds for a population like that.
    sources
        How many sources that was.
    prevalence
        Share of the sources that are real where the calibration was fitted: of all that are scored,
        which are those that SEP extracts and those that the network finds, or, of a classifier of
        stamps, the candidates. None on cards of earlier releases, which did not keep it; such a
        confidence cannot follow another share.
    discoveries
        What a false discovery rate can be vouched for with where another share is real.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    calibration: CalibrationMap
    scatter: float
    outliers: Outliers
    risk: RiskCurve
    fitted_on: str
    sources: int
    prevalence: float | None = None
    discoveries: Discoveries | None = None

    def standardise(self, values: dict[str, Values]) -> Values:
        """float64 (N, features), as the regression takes them.

        Raises
        ------
        KeyError
            If a feature of the model is not among ``values``.
        """
        table = np.stack([values[name] for name in self.names], axis=1)
        return standardised(table, np.asarray(self.mean), np.asarray(self.scale))

    def logits(self, table: Values) -> Values:
        """Calibrated logits of standardised features (N, F), float64 (N,)."""
        return apply_calibration(
            table @ np.asarray(self.weights) + self.intercept, self.calibration
        )

    def judge(
        self, table: Values, prevalence: Prevalence | None = None
    ) -> tuple[Values, Values, Values]:
        """Confidence, and the ends of its interval, of standardised features, each float64 (N,).

        Parameters
        ----------
        table
            float64 (N, features), of `standardise`.
        prevalence
            The share of real sources that it shall hold for; None: the one of calibration.
        """
        logits, scatter = self.logits(table), self.scatter
        if prevalence is not None:
            logits = logits + prevalence.shift
            scatter = math.hypot(scatter, prevalence.error)
        return np.asarray(expit(logits)), *interval(logits, scatter)

    def guarantee(self, level: float, prevalence: Prevalence | None = None) -> Guarantee:
        """The lowest threshold that keeps the false discovery rate at ``level``.

        Of a share that is estimated, the low end of its interval counts.

        Raises
        ------
        InputError
            ``guarantee-impossible`` if none does.
        """
        found, exposures = self.discoveries, self.risk.exposures
        if found is None or (prevalence is None and self.risk.thresholds):
            return self.risk.guarantee(level)
        if prevalence is None:
            assert self.prevalence is not None
            return shifted_guarantee(found, exposures, level, self.prevalence, 0.0)
        estimate = prevalence.estimate
        share = prevalence.share if estimate is None else estimate.low
        return shifted_guarantee(found, exposures, level, share, prevalence.shift)

    def explain(
        self, values: Mapping[str, float], prevalence: Prevalence | None = None
    ) -> Derivation:
        """Derive the confidence of one source again, step by step.

        Parameters
        ----------
        values
            Its features by name; those that are unknown are left out.
        prevalence
            The share of real sources that was used; None: the one of calibration.
        """
        row = {name: np.array([values.get(name, np.nan)]) for name in self.names}
        table = self.standardise(row)
        terms = tuple(
            Term(
                name=name,
                value=values.get(name),
                mean=mean,
                scale=scale,
                weight=weight,
                contribution=float(weight * standard),
            )
            for name, mean, scale, weight, standard in zip(
                self.names, self.mean, self.scale, self.weights, table[0], strict=True
            )
        )
        logits = self.logits(table)
        confidence, low, high = self.judge(table, prevalence)
        return Derivation(
            terms=terms,
            intercept=self.intercept,
            score=self.intercept + sum(term.contribution for term in terms),
            calibration_id=hashlib.sha256(msgspec.json.encode(self.calibration)).hexdigest()[:12],
            calibration=self.calibration,
            logit=float(logits[0]),
            scatter=self.scatter,
            confidence=float(confidence[0]),
            low=float(low[0]),
            high=float(high[0]),
            fitted_on=self.fitted_on,
            prevalence=prevalence,
        )


def standardised(table: Values, mean: Values, scale: Values) -> Values:
    """(table - mean) / scale, and 0 where a value is unknown."""
    scaled = (table - mean) / scale
    return np.where(np.isfinite(scaled), scaled, 0.0)
