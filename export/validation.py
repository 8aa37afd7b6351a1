"""How good a network's detections are on fields whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation import Sample, brier, expected_calibration_error
from detection.exposure import Exposure
from detection.model import UNetModel
from detection.scoring import finish, prepare_exposure
from detection.types import Detection
from detection.work import Predict

# Sources this bright are expected to be found; fainter ones are at the noise's mercy.
_BRIGHT = (8.0, np.inf)
_BATCH = 4
# Of a detection before and after conversion.
_SAME_PLACE = 1.0  # pixels
_SAME_CONFIDENCE = 1e-3


@dataclass(frozen=True, slots=True)
class LabelledField:
    """An exposure with its true transients.

    Attributes
    ----------
    image
        float32 (H, W), counts; NaN where there is nothing.
    positions
        float64 (N, 2), x and y of the transients, 0-based pixels.
    snr
        float64 (N,), their true signal-to-noise ratio.
    """

    image: NDArray[np.float32]
    positions: NDArray[np.float64]
    snr: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Fields, and what they are, in words that also tell one set from another."""

    fields: Sequence[LabelledField]
    description: str


def score(field: LabelledField, card: UNetModel, predict: Predict) -> list[Detection]:
    """The detections of a field, as the gateway would answer them."""
    work = prepare_exposure(Exposure.from_array(field.image), card)
    return finish(work.answer(predict, _BATCH), threshold=0.5).detections


def evaluate(
    fields: Sequence[LabelledField], card: UNetModel, predict: Predict
) -> dict[str, float]:
    """Figures of accuracy and calibration, by name.

    Parameters
    ----------
    fields
        At least one of them with a transient.
    card
        Of the model that ``predict`` runs.
    predict
        The network.
    """
    samples = []
    for field in fields:
        scored = [d for d in score(field, card, predict) if d.confidence is not None]
        positions = np.array([(d.x, d.y) for d in scored], np.float64).reshape(-1, 2)
        confidence = np.array([d.confidence for d in scored], np.float64)
        samples.append(Sample.of_field(positions, confidence, field.positions, field.snr))
    joined = Sample.join(samples)
    some = len(joined.score) > 0
    return {
        "average_precision": joined.average_precision(),
        "completeness": joined.completeness(0.5, *_BRIGHT),
        "purity": joined.purity(0.5),
        "false_positives_per_field": joined.false_positives_per_field(0.5),
        "ece": expected_calibration_error(joined.score, joined.real) if some else np.nan,
        "brier": brier(joined.score, joined.real) if some else np.nan,
        "validation_sources": len(joined.score),
        "validation_transients": joined.transients,
    }


def compare_detections(
    fields: Sequence[LabelledField], card: UNetModel, source: Predict, converted: Predict
) -> tuple[list[str], dict[str, float]]:
    """Compare the detections that two engines lead to, after thresholds and NMS.

    Returns
    -------
    problems : list of str
        What differs; empty if nothing does.
    figures : dict
        How many were compared, and the largest differences in place and confidence.
    """
    problems: list[str] = []
    compared, place, confidence = 0, 0.0, 0.0
    for number, field in enumerate(fields):
        before = _kept(score(field, card, source))
        after = _kept(score(field, card, converted))
        compared += len(before)
        for one, other in ((before, after), (after, before)):
            for detection in one:
                twin = min(other, key=lambda d: _distance(d, detection), default=None)
                if twin is None or _distance(twin, detection) > _SAME_PLACE:
                    # One that is barely a peak may be none for the other engine.
                    if abs((detection.probability or 0.0) - card.threshold) > _SAME_CONFIDENCE:
                        problems.append(
                            f"field {number} has a detection at ({detection.x:.1f},"
                            f" {detection.y:.1f}) with one engine alone"
                        )
                    continue
                place = max(place, _distance(twin, detection))
                confidence = max(
                    confidence, abs((twin.confidence or 0.0) - (detection.confidence or 0.0))
                )
    if confidence > _SAME_CONFIDENCE:
        problems.append(f"confidences differ by up to {confidence:.3g}")
    figures = {
        "detections_compared": compared,
        "detections_max_distance_px": place,
        "detections_max_confidence_difference": confidence,
    }
    return problems[:5], figures


def _kept(detections: list[Detection]) -> list[Detection]:
    return [one for one in detections if one.confidence is not None]


def _distance(one: Detection, other: Detection) -> float:
    return float(np.hypot(one.x - other.x, one.y - other.y))
