"""The figures of a version on fields whose truth is known, wherever they were scored."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from astrotriton.detection.arrays import Positions, Values
from astrotriton.detection.card import UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.coverage import interval_coverage
from astrotriton.detection.quality.evaluation import (
    Sample,
    aurc,
    brier,
    expected_calibration_error,
    false_discovery_proportions,
    reliability,
)
from astrotriton.wire.detections import Detection
from astrotriton.wire.validation import Curve, Curves

FDR_ASKED = 0.05

# Sources this bright are expected to be found; fainter ones are at the noise's mercy.
_BRIGHT = (8.0, np.inf)
_THRESHOLD = 0.5
_SNR_EDGES = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 30.0)
_POINTS = 200
_COVERAGE_SEED = 1


@dataclass(frozen=True, slots=True)
class ScoredField:
    """The detections of one field, matched to its truth.

    Attributes
    ----------
    by_confidence, by_probability
        Ranked by the confidence, and by the network's probability alone.
    """

    by_confidence: Sample
    by_probability: Sample

    @classmethod
    def of(cls, detections: Sequence[Detection], truth: Positions, snr: Values) -> "ScoredField":
        """Match what scoring answered to the truth.

        Parameters
        ----------
        truth
            float64 (M, 2), positions of the transients, 0-based pixels.
        snr
            float64 (M,), their true signal-to-noise ratio.
        """
        kept = [one for one in detections if one.confidence is not None]
        positions = np.array([(one.x, one.y) for one in kept], np.float64).reshape(-1, 2)
        by_confidence, by_probability = (
            Sample.of_field(positions, np.array(score, np.float64), truth, snr)
            for score in ([d.confidence for d in kept], [d.probability for d in kept])
        )
        return cls(by_confidence, by_probability)


def figures(scored: Sequence[ScoredField], card: UNetModel) -> dict[str, float]:
    """Figures of accuracy and calibration, by name; NaN for what the fields cannot tell.

    Parameters
    ----------
    scored
        At least one field.
    card
        Of the model that scored them.
    """
    sample = Sample.join(one.by_confidence for one in scored)
    network = Sample.join(one.by_probability for one in scored)
    some = len(sample.score) > 0
    found = {
        "average_precision": sample.average_precision(),
        "completeness": sample.completeness(_THRESHOLD, *_BRIGHT),
        "purity": sample.purity(_THRESHOLD),
        "false_positives_per_field": sample.false_positives_per_field(_THRESHOLD),
        "centroid_error_px": float(np.nanmedian(sample.error)) if sample.real.any() else np.nan,
        "ece": expected_calibration_error(sample.score, sample.real) if some else np.nan,
        "brier": brier(sample.score, sample.real) if some else np.nan,
        "brier_uncalibrated": brier(network.score, network.real) if some else np.nan,
        "aurc_confidence": aurc(sample) if some else np.nan,
        "validation_fields": sample.fields,
        "validation_sources": len(sample.score),
        "validation_transients": sample.transients,
    }
    model = card.confidence
    if model is None or not some:
        return found
    field = np.repeat(np.arange(len(scored)), [len(one.by_confidence.score) for one in scored])
    found["interval_coverage_90"] = interval_coverage(sample, field, model.scatter, _COVERAGE_SEED)
    found["fdr_realised"] = np.nan
    # A confidence that was fitted on few exposures vouches for nothing.
    with contextlib.suppress(InputError):
        threshold = model.risk.guarantee(FDR_ASKED).threshold
        proportions = false_discovery_proportions(
            sample.score, sample.real, field, sample.fields, threshold
        )
        found["fdr_realised"] = float(np.mean(proportions))
    return found


def curves(scored: Iterable[ScoredField]) -> Curves:
    """The diagrams that belong to `figures`."""
    sample = Sample.join(one.by_confidence for one in scored)
    middles, shares, counts = [], [], []
    for low, high in pairwise(_SNR_EDGES):
        inside = np.count_nonzero((sample.snr >= low) & (sample.snr < high))
        missed = np.count_nonzero((sample.missed_snr >= low) & (sample.missed_snr < high))
        if inside + missed:
            middles.append((low + high) / 2)
            shares.append(float(sample.completeness(_THRESHOLD, low, high)))
            counts.append(int(inside + missed))
    precision, recall = sample.precision_recall()
    said, happened, count = (
        reliability(sample.score, sample.real) if len(sample.score) else (np.empty(0),) * 3
    )
    return Curves(
        completeness=Curve(x=middles, y=shares, count=counts),
        precision_recall=Curve(x=_thinned(recall), y=_thinned(precision)),
        reliability=Curve(x=said.tolist(), y=happened.tolist(), count=[int(one) for one in count]),
    )


def _thinned(values: Values) -> list[float]:
    chosen = np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int)
    thinned: list[float] = values[chosen].tolist()
    return thinned
