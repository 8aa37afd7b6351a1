"""How good a network's detections are on fields whose truth is known."""

from collections.abc import Sequence

import numpy as np

from astrotriton.detection.arrays import Positions
from astrotriton.detection.card import ModelCard, UNetModel
from astrotriton.detection.quality.drift import Baseline, describe
from astrotriton.detection.quality.figures import ScoredField, figures
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.detection.scoring.scored import Scored
from astrotriton.detection.sources.matching import nearest
from astrotriton.export.errors import ExportError
from astrotriton.wire.detections import Detection

__all__ = [
    "LabelledField",
    "ValidationSet",
    "baseline_of",
    "compare_detections",
    "evaluate",
    "figures_of",
    "score_all",
]

_BATCH = 4
# Of a detection before and after conversion.
_SAME_PLACE = 1.0  # pixels
_SAME_CONFIDENCE = 1e-3


def score(field: LabelledField, card: ModelCard, predict: Predict) -> Scored:
    """A field as the gateway would answer it; a classifier is sent `judged_candidates`.

    Raises
    ------
    ExportError
        If the network needs images that the field does not hold.
    """
    if needed := [one for one in card.required_planes if one not in field.companions]:
        raise ExportError(
            f"{card.name} needs {' and '.join(needed)} beside the difference, which the labelled"
            " fields do not hold: put them beside the fields, name them in optional_planes if the"
            " network can do without them, or export it without a trial"
        )
    exposure = field.exposure()
    tiled = prepare_exposure(exposure, card, judged_candidates(exposure, card, field.transients))
    return finish(tiled.answer(predict, _BATCH), threshold=0.5)


def score_all(fields: Sequence[LabelledField], card: ModelCard, predict: Predict) -> list[Scored]:
    """Every field as the gateway would answer it.

    Parameters
    ----------
    card
        Of the model that ``predict`` runs.
    predict
        The network.
    """
    return [score(field, card, predict) for field in fields]


def figures_of(
    scored: Sequence[Scored], fields: Sequence[LabelledField], card: ModelCard
) -> dict[str, float]:
    """Figures of accuracy and calibration, by name, of fields that `score_all` has scored."""
    matched = [
        ScoredField.of(one.detections, field.transients, card)
        for one, field in zip(scored, fields, strict=True)
    ]
    return figures(matched, card)


def evaluate(
    fields: Sequence[LabelledField], card: ModelCard, predict: Predict
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
    return figures_of(score_all(fields, card, predict), fields, card)


def baseline_of(scored: Sequence[Scored], description: str) -> Baseline:
    """The exposures that later ones are compared with: those that `score_all` has scored."""
    return Baseline(np.stack([describe(one) for one in scored]), description)


def compare_detections(
    fields: Sequence[LabelledField], card: ModelCard, source: Predict, converted: Predict
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
        before = _kept(score(field, card, source).detections)
        after = _kept(score(field, card, converted).detections)
        compared += len(before)
        for one, other in ((before, after), (after, before)):
            twins = nearest(_positions(one), _positions(other), _SAME_PLACE)
            for detection, index, distance in zip(one, *twins, strict=True):
                if index < 0:
                    # One that is barely a peak may be none for the other engine, and of equally
                    # probable ones beside each other either may be the one that is kept.
                    barely = isinstance(card, UNetModel) and (
                        abs((detection.probability or 0.0) - card.threshold) <= _SAME_CONFIDENCE
                    )
                    if not barely and not _equal(detection, other, 2.0 * card.nms_radius):
                        problems.append(
                            f"field {number} has a detection at ({detection.x:.1f},"
                            f" {detection.y:.1f}) with one engine alone"
                        )
                    continue
                place = max(place, float(distance))
                twin = other[index].confidence or 0.0
                confidence = max(confidence, abs(twin - (detection.confidence or 0.0)))
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


def _equal(detection: Detection, others: list[Detection], radius: float) -> bool:
    """Whether one that is as probable lies near: both, or one between them, compete in the NMS."""
    if not others:
        return False
    away = np.hypot(*(_positions(others) - _positions([detection])).T)
    return any(
        abs((one.probability or 0.0) - (detection.probability or 0.0)) <= _SAME_CONFIDENCE
        for one, distance in zip(others, away, strict=True)
        if distance <= radius
    )


def _positions(detections: list[Detection]) -> Positions:
    return np.array([(one.x, one.y) for one in detections], np.float64).reshape(-1, 2)
