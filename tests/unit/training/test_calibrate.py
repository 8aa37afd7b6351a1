import msgspec
import numpy as np
import pytest
from scipy.special import expit

from astrotriton.detection.confidence.calibration import apply_calibration
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.coverage import interval_coverage
from astrotriton.detection.quality.evaluation import Sample, false_discovery_proportions
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.training.calibrate import (
    Labelled,
    Sizes,
    calibrate,
    calibration_fields,
    fit_calibration,
    fit_confidence,
    fit_scatter,
    transients_of,
)
from astrotriton.training.evaluate import threshold_of_false_positives
from tests.unit.export import stamp_models

FIELDS, EACH = 200, 30
NONE = Transients.of(np.empty((0, 2)), np.empty(0))


def sources(scatter: float, seed: int = 0, slope: float = 1.0) -> Labelled:
    """Sources whose logit is known up to an effect that those of a field share."""
    rng = np.random.default_rng(seed)
    field = np.repeat(np.arange(FIELDS), EACH)
    logits = rng.normal(0.0, 2.5, size=FIELDS * EACH)
    effect = rng.normal(0.0, scatter, size=FIELDS)[field]
    real = rng.random(logits.size) < expit(logits + effect)
    table = np.stack([logits * slope, rng.normal(size=logits.size)], axis=1)
    return Labelled(("score", "nothing"), table, real, field, FIELDS)


@pytest.mark.parametrize("scatter", [0.0, 0.7])
def test_scatter_between_exposures_is_found_again(scatter: float) -> None:
    made = sources(scatter)
    assert fit_scatter(made.table[:, 0], made) == pytest.approx(scatter, abs=0.15)


def test_intervals_hold_as_often_as_they_say() -> None:
    made = sources(0.7, seed=1)
    score = expit(made.table[:, 0])
    nothing = np.full(len(score), np.nan)
    sample = Sample(score, made.real, nothing, NONE, np.empty(0), FIELDS)
    assert interval_coverage(sample, made.field, 0.7, 1) == pytest.approx(0.9, abs=0.03)
    # Intervals that claim to know better hold less often.
    assert interval_coverage(sample, made.field, 0.0, 1) < 0.87


def test_an_overconfident_score_is_calibrated() -> None:
    made = sources(0.0, slope=3.0)
    fitted = fit_calibration(made.table[:, 0], made.real, made.field)
    assert fitted.method != "none"
    x = np.array([-6.0, 0.0, 6.0])
    np.testing.assert_allclose(apply_calibration(x, fitted), x / 3.0, atol=0.35)


def test_a_confidence_is_fitted_and_vouched_for() -> None:
    model = fit_confidence(
        sources(0.3, seed=2), sources(0.3, seed=3), sources(0.3, seed=4), fitted_on="a test"
    )
    fresh = sources(0.3, seed=5)
    values = {"score": fresh.table[:, 0], "nothing": fresh.table[:, 1]}
    confidence = expit(model.logits(model.standardise(values)))
    assert np.mean(confidence[fresh.real]) > np.mean(confidence[~fresh.real]) + 0.3
    assert model.risk.exposures == FIELDS
    promise = model.risk.guarantee(0.2)
    realised = false_discovery_proportions(
        confidence, fresh.real, fresh.field, FIELDS, promise.threshold
    )
    assert realised.mean() <= 0.2 + 2 * realised.std() / np.sqrt(FIELDS)
    # One in a thousand of what it was fitted on counts as unlike it.
    assert model.outliers(model.standardise(values)).mean() < 0.01


def test_the_confidence_of_a_classifier_of_stamps() -> None:
    """It is fitted on candidates, of the features that there are, and scores with them."""
    card = stamp_models.card(scaling="asinh")

    def predict(stamps: np.ndarray) -> np.ndarray:
        """As likely to be real as the middle is bright, either way, and its neighbours are."""
        near = np.abs(stamps[:, :, 30:33, 30:33].mean(axis=(1, 2, 3), keepdims=True))
        return expit(near - 2.0)

    sizes = Sizes(regression=3, calibration=4, exposures=4)
    said: list[str] = []
    model = calibrate(card, predict, seed=9, tta=False, sizes=sizes, on_progress=said.append)
    assert "logit_peak" in model.names
    assert "logit_mean" not in model.names
    assert len(said) == 3

    card = msgspec.structs.replace(card, confidence=model)
    [field] = calibration_fields(77, 3, 4)
    exposure, truth = Exposure.from_array(field.difference), transients_of(field)
    candidates = judged_candidates(exposure, card, truth)
    scored = finish(prepare_exposure(exposure, card, candidates).answer(predict, 64))
    kept = [one for one in scored.detections if one.outcome == "kept"]
    assert all(0.0 <= one.confidence_low <= one.confidence_high <= 1.0 for one in kept)
    assert all("uncalibrated" not in one.flags for one in kept)
    assert [one.confidence for one in kept] != [one.probability for one in kept]
    assert all(len(row) == len(model.names) for row in scored.features if row is not None)


def test_the_threshold_of_a_false_positive_rate() -> None:
    sample = Sample(
        score=np.array([0.9, 0.8, 0.7, 0.6]),
        real=np.array([True, False, False, True]),
        error=np.zeros(4),
        transients=NONE,
        found=np.empty(0),
        fields=4,
    )
    assert sample.false_positives_per_field(threshold_of_false_positives(sample, 0.25)) == 0.25
    assert threshold_of_false_positives(sample, 10.0) == 0.0
