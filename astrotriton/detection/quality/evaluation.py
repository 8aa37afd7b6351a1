"""How good scored detections are, against truth.

One table of sources and one of truths, gathered over fields, carry all that the figures need. A
source is a true positive if it is matched to a true transient, each transient to one source at
most.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Flags, Indices, Positions, Values
from astrotriton.detection.sources.matching import match

MATCH_RADIUS = 3.0  # pixels


@dataclass(frozen=True, slots=True)
class Sample:
    """Scored sources and true transients of one field, or of many.

    Attributes
    ----------
    score
        float64 (N,), confidence or whatever else ranks the sources.
    real
        bool (N,), matched to a transient.
    error
        float64 (N,), distance to the matched transient in pixels, NaN for a false one.
    snr
        float64 (N,), true signal-to-noise ratio of the matched transient, NaN for a false one.
    missed_snr
        float64 (M,), that of the transients that no source was matched to.
    fields
        Number of fields.
    """

    score: Values
    real: Flags
    error: Values
    snr: Values
    missed_snr: Values
    fields: int

    @classmethod
    def of_field(cls, found: Positions, score: Values, truth: Positions, snr: Values) -> "Sample":
        """Match the sources of one field to its transients."""
        matched = match(found, score, truth, MATCH_RADIUS)
        real = matched >= 0
        error, found_snr = np.full(len(found), np.nan), np.full(len(found), np.nan)
        error[real] = np.linalg.norm(found[real] - truth[matched[real]], axis=1)
        found_snr[real] = snr[matched[real]]
        return cls(score, real, error, found_snr, np.delete(snr, matched[real]), 1)

    @classmethod
    def join(cls, samples: Iterable["Sample"]) -> "Sample":
        """Put the samples of many fields together."""
        parts = list(samples)

        def together(column: str) -> NDArray[Any]:
            return np.concatenate([getattr(part, column) for part in parts])

        return cls(
            score=together("score"),
            real=together("real"),
            error=together("error"),
            snr=together("snr"),
            missed_snr=together("missed_snr"),
            fields=sum(part.fields for part in parts),
        )

    @property
    def transients(self) -> int:
        """Number of true transients, found or missed."""
        return int(self.real.sum()) + len(self.missed_snr)

    def completeness(self, threshold: float, low: float = 0.0, high: float = np.inf) -> float:
        """Share of the transients with true SNR in [low, high) whose score reaches a threshold.

        NaN if there are none.
        """
        inside = (self.snr >= low) & (self.snr < high)
        missed = np.count_nonzero((self.missed_snr >= low) & (self.missed_snr < high))
        total = np.count_nonzero(inside) + missed
        return np.count_nonzero(inside & (self.score >= threshold)) / total if total else np.nan

    def purity(self, threshold: float) -> float:
        """Share of real ones among the sources whose score reaches a threshold; NaN for none."""
        called = self.score >= threshold
        return float(np.mean(self.real[called])) if called.any() else np.nan

    def false_positives_per_field(self, threshold: float) -> float:
        """Sources that reach a threshold and are not real, per field."""
        return np.count_nonzero((self.score >= threshold) & ~self.real) / self.fields

    def threshold_of_completeness(self, wanted: float) -> float:
        """The highest threshold at which at least this share of all transients is found."""
        scores = np.sort(self.score[self.real])[::-1]
        needed = int(np.ceil(wanted * self.transients))
        return float(scores[needed - 1]) if 0 < needed <= len(scores) else np.nan

    def precision_recall(self) -> tuple[Values, Values]:
        """Purity and completeness as the threshold falls, one point a source, float64 (N,)."""
        real = self.real[np.argsort(-self.score, kind="stable")]
        hits = np.cumsum(real)
        return hits / np.arange(1, len(real) + 1), hits / max(self.transients, 1)

    def average_precision(self) -> float:
        """Area under the precision-recall curve: the mean purity at each transient found.

        Transients that are never found count as found at purity 0.
        """
        precision, _ = self.precision_recall()
        real = self.real[np.argsort(-self.score, kind="stable")]
        return float(precision[real].sum() / max(self.transients, 1))


def brier(confidence: Values, real: Flags) -> float:
    """Mean squared difference of confidence and truth (Brier 1950)."""
    return float(np.mean((confidence - real) ** 2))


def reliability(confidence: Values, real: Flags, bins: int = 15) -> tuple[Values, Values, Indices]:
    """Mean confidence, share of real ones and number of sources in bins of equal population."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([real[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def expected_calibration_error(confidence: Values, real: Flags, bins: int = 15) -> float:
    """Mean distance of confidence and share of real ones over bins of equal population."""
    said, happened, count = reliability(confidence, real, bins)
    return float(np.sum(count * np.abs(said - happened)) / count.sum())


def risk_coverage_area(certainty: Values, wrong: Flags) -> float:
    """Area under the risk-coverage curve (Geifman et al. 2019): smaller is better.

    The risk at a coverage is the share of wrong answers among the most certain ones.
    """
    ordered = wrong[np.argsort(-certainty, kind="stable")]
    return float(np.mean(np.cumsum(ordered) / np.arange(1, len(ordered) + 1)))


def aurc(sample: Sample) -> float:
    """Area under the risk-coverage curve of calling real what is more likely so than not."""
    wrong = (sample.score >= 0.5) != sample.real
    return risk_coverage_area(np.abs(sample.score - 0.5), wrong)


def false_discovery_proportions(
    score: Values, real: Flags, field: Indices, fields: int, threshold: float
) -> Values:
    """Share of false ones among the sources that reach a threshold, by field, float64 (fields,).

    0 where none does. ``field`` is intp (N,), the field that each source lies in.
    """
    called = score >= threshold
    number = np.bincount(field[called], minlength=fields)
    false = np.bincount(field[called & ~real], minlength=fields)
    return np.asarray(false / np.maximum(number, 1))
