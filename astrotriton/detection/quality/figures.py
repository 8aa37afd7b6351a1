"""The figures of a version on fields whose truth is known, wherever they were scored."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from astrotriton.detection.arrays import Flags, Values
from astrotriton.detection.card import ModelCard
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
from astrotriton.detection.quality.transients import Transients
from astrotriton.wire.detections import Detection
from astrotriton.wire.validation import Curve, Curves

FDR_ASKED = 0.05

# Sources this bright are expected to be found; fainter ones are at the noise's mercy.
_BRIGHT = (8.0, np.inf)
_THRESHOLD = 0.5
_CURVE_EDGES = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0, 1e4)
#: Lower edges of the bins of SNR and of FWHM (pixels) that figures are given in.
SNR_EDGES = (3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0)
FWHM_EDGES = (1.2, 2.0, 3.0, 5.0, 8.0)
#: Transients that a bin must hold for its figure to say something.
MIN_IN_BIN = 20
_IN_BINS = (10.0, np.inf)  # SNR of those that are told apart by other things than it
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
    def of(
        cls, detections: Sequence[Detection], truth: Transients, card: ModelCard
    ) -> "ScoredField":
        """Match what scoring answered to what of the truth the model looks for."""
        truth = truth.looked_for(card.polarities)
        kept = [one for one in detections if one.confidence is not None]
        positions = np.array([(one.x, one.y) for one in kept], np.float64).reshape(-1, 2)
        polarity = np.array([one.polarity for one in kept], np.int8)
        by_confidence, by_probability = (
            Sample.of_field(positions, np.array(score, np.float64), truth, polarity)
            for score in ([d.confidence for d in kept], [d.probability for d in kept])
        )
        return cls(by_confidence, by_probability)


def figures(scored: Sequence[ScoredField], card: ModelCard) -> dict[str, float]:
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
        "validation_transients": len(sample.transients),
        **completeness_by_bin(sample),
    }
    model = card.confidence
    if model is None or not some:
        return found
    field = np.repeat(np.arange(len(scored)), [len(one.by_confidence.score) for one in scored])
    found["interval_coverage_90"] = interval_coverage(sample, field, model.scatter, _COVERAGE_SEED)
    found["fdr_realised"] = np.nan
    # A confidence that was fitted on few exposures vouches for nothing.
    with contextlib.suppress(InputError):
        threshold = model.guarantee(FDR_ASKED).threshold
        proportions = false_discovery_proportions(
            sample.score, sample.real, field, sample.fields, threshold
        )
        found["fdr_realised"] = float(np.mean(proportions))
    return found


def bins_of(sample: Sample) -> dict[str, Flags]:
    """The transients by SNR, and the bright ones by the width of the PSF, by sign and by place.

    bool (M,) each, by a name that says which.
    """
    truth = sample.transients
    bright = sample.between(*_IN_BINS)
    found = {
        f"snr_{low:g}": sample.between(low, high) for low, high in pairwise((*SNR_EDGES, np.inf))
    }
    found |= {
        f"fwhm_{low:g}": bright & (truth.fwhm >= low) & (truth.fwhm < high)
        for low, high in pairwise((*FWHM_EDGES, np.inf))
    }
    return found | {
        "brightening": bright & (truth.polarity > 0),
        "fading": bright & (truth.polarity < 0),
        "alone": bright & ~truth.hosted,
        "hosted": bright & truth.hosted,
        "saturated": truth.saturated,
    }


def completeness_by_bin(sample: Sample) -> dict[str, float]:
    """Completeness at confidence 0.5 of each of `bins_of` that holds `MIN_IN_BIN` transients."""
    return {
        f"completeness_{name}": sample.completeness(_THRESHOLD, of=inside)
        for name, inside in bins_of(sample).items()
        if np.count_nonzero(inside) >= MIN_IN_BIN
    }


def curves(scored: Iterable[ScoredField]) -> Curves:
    """The diagrams that belong to `figures`."""
    sample = Sample.join(one.by_confidence for one in scored)
    middles, shares, counts = [], [], []
    for low, high in pairwise(_CURVE_EDGES):
        if inside := int(np.count_nonzero(sample.between(low, high))):
            middles.append((low * high) ** 0.5)
            shares.append(sample.completeness(_THRESHOLD, low, high))
            counts.append(inside)
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
