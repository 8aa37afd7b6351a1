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

from astrotriton.detection.arrays import Flags, Indices, Polarities, Positions, Values
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.sources.matching import match

MATCH_RADIUS = 3.0  # pixels
_FAR = 1e7  # pixels: beyond any exposure


@dataclass(frozen=True, slots=True)
class Sample:
    """Scored sources and true transients of one field, or of many.

    Attributes
    ----------
    score
        float64 (N,), confidence or whatever else ranks the sources.
    real
        bool (N,), matched to a transient of the same polarity.
    error
        float64 (N,), distance to the matched transient in pixels, NaN for a false one.
    transients
        M true transients.
    found
        float64 (M,), score of the source that each transient is matched to, -inf for none.
    fields
        Number of fields.
    """

    score: Values
    real: Flags
    error: Values
    transients: Transients
    found: Values
    fields: int

    @classmethod
    def of_field(
        cls,
        positions: Positions,
        score: Values,
        truth: Transients,
        polarity: Polarities | None = None,
    ) -> "Sample":
        """Match the sources of one field to its transients; without a polarity, of any polarity."""
        matched = match_transients(positions, score, truth, polarity)
        real = matched >= 0
        error, found = np.full(len(positions), np.nan), np.full(len(truth), -np.inf)
        error[real] = np.linalg.norm(positions[real] - truth.positions[matched[real]], axis=1)
        found[matched[real]] = score[real]
        return cls(score, real, error, truth, found, 1)

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
            transients=Transients.join([part.transients for part in parts]),
            found=together("found"),
            fields=sum(part.fields for part in parts),
        )

    def between(self, low: float = 0.0, high: float = np.inf) -> Flags:
        """Which transients have a true SNR in [low, high), bool (M,)."""
        return (self.transients.snr >= low) & (self.transients.snr < high)

    def completeness(
        self, threshold: float, low: float = 0.0, high: float = np.inf, *, of: Flags | None = None
    ) -> float:
        """Share of the transients with true SNR in [low, high) whose score reaches a threshold.

        ``of``, bool (M,), narrows down which ones. NaN if there are none.
        """
        chosen = self.between(low, high)
        if of is not None:
            chosen = chosen & of
        return float(np.mean(self.found[chosen] >= threshold)) if chosen.any() else np.nan

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
        needed = int(np.ceil(wanted * len(self.transients)))
        return float(scores[needed - 1]) if 0 < needed <= len(scores) else np.nan

    def precision_recall(self) -> tuple[Values, Values]:
        """Purity and completeness as the threshold falls, one point a source, float64 (N,)."""
        real = self.real[np.argsort(-self.score, kind="stable")]
        hits = np.cumsum(real)
        return hits / np.arange(1, len(real) + 1), hits / max(len(self.transients), 1)

    def average_precision(self) -> float:
        """Area under the precision-recall curve: the mean purity at each transient found.

        Transients that are never found count as found at purity 0.
        """
        precision, _ = self.precision_recall()
        real = self.real[np.argsort(-self.score, kind="stable")]
        return float(precision[real].sum() / max(len(self.transients), 1))


def match_transients(
    positions: Positions, score: Values, truth: Transients, polarity: Polarities | None = None
) -> Indices:
    """Which transient each source is, intp (N,), -1 for none.

    A source matches a transient within `MATCH_RADIUS` and, where its ``polarity`` is given, of the
    same polarity.
    """
    if polarity is None:
        return match(positions, score, truth.positions, MATCH_RADIUS)
    return match(
        _apart(positions, polarity), score, _apart(truth.positions, truth.polarity), MATCH_RADIUS
    )


def _apart(positions: Positions, polarity: Polarities) -> Positions:
    """Positions of which those that fade lie where none that brightens can be near."""
    return positions + np.where(polarity < 0, _FAR, 0.0)[:, None]


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
