import msgspec
import numpy as np
import pytest
from scipy.special import expit

from astrotriton.detection.confidence.calibration import apply_calibration, entropy, interval
from astrotriton.detection.confidence.guarantee import RiskCurve
from astrotriton.detection.confidence.model import ConfidenceModel, Outliers
from astrotriton.detection.errors import InputError
from astrotriton.wire.confidence import CalibrationMap

CURVE = RiskCurve(thresholds=(0.99, 0.95, 0.9, 0.5), risk=(0.0, 0.005, 0.02, 0.2), exposures=400)
MODEL = ConfidenceModel(
    names=("a", "b"),
    mean=(1.0, 0.0),
    scale=(2.0, 1.0),
    weights=(3.0, -1.0),
    intercept=0.5,
    calibration=CalibrationMap(method="temperature", score=(-4.0, 4.0), calibrated=(-2.0, 2.0)),
    scatter=0.4,
    outliers=Outliers(precision=((1.0, 0.0), (0.0, 1.0)), limit=9.0),
    risk=CURVE,
    fitted_on="a test",
    sources=10,
)


def test_an_unknown_feature_counts_as_the_average() -> None:
    table = MODEL.standardise({"a": np.array([np.nan, 1.0]), "b": np.array([0.0, np.nan])})
    np.testing.assert_array_equal(table, 0.0)


def test_a_confidence_can_be_derived_again() -> None:
    values = {"a": np.array([2.0]), "b": np.array([0.3])}
    derivation = MODEL.explain({"a": 2.0, "b": 0.3})
    (logit,) = MODEL.logits(MODEL.standardise(values))
    assert derivation.confidence == pytest.approx(float(expit(logit)))
    assert derivation.score == pytest.approx(0.5 + 3.0 * 0.5 - 0.3)
    assert [term.name for term in derivation.terms] == ["a", "b"]
    assert sum(t.contribution for t in derivation.terms) + 0.5 == pytest.approx(derivation.score)
    assert derivation.low < derivation.confidence < derivation.high
    assert msgspec.json.decode(msgspec.json.encode(derivation), type=type(derivation)) == derivation


def test_calibration_is_linear_between_knots_and_goes_on_beyond() -> None:
    mapped = apply_calibration(np.array([-6.0, -4.0, 0.0, 4.0, 5.0]), MODEL.calibration)
    np.testing.assert_allclose(mapped, [-4.0, -2.0, 0.0, 2.0, 3.0])


def test_interval_is_symmetric_in_the_logit() -> None:
    low, high = interval(np.array([0.0]), 0.4)
    assert low[0] + high[0] == pytest.approx(1.0)
    assert low[0] == pytest.approx(expit(-1.645 * 0.4), abs=1e-4)
    np.testing.assert_array_equal(*interval(np.array([1.0]), 0.0))


def test_entropy() -> None:
    np.testing.assert_allclose(entropy(np.array([0.0, 0.5, 1.0])), [0.0, 1.0, 0.0], atol=1e-9)


def test_outliers_lie_far_from_the_mean() -> None:
    np.testing.assert_array_equal(
        MODEL.outliers(np.array([[0.0, 0.0], [2.0, 2.0], [3.1, 0.0]])), [False, False, True]
    )


def test_guarantee_takes_the_lowest_threshold_that_passes() -> None:
    promise = CURVE.guarantee(0.05)
    assert promise.threshold == 0.9
    assert promise.exposures == 400
    # Fewer exposures vouch for less.
    few = msgspec.structs.replace(CURVE, exposures=60)
    assert few.guarantee(0.1).threshold > 0.5
    with pytest.raises(InputError, match=r"cannot vouch for 0\.01") as caught:
        few.guarantee(0.01)
    assert caught.value.field == "max_false_discovery_rate"


def test_a_promise_is_kept_as_often_as_it_says() -> None:
    """Draw calibration sets whose true risk is just too high: few may pass."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(300):
        risk = float(np.mean(rng.random(200) < 0.052))
        curve = RiskCurve(thresholds=(0.5,), risk=(risk,), exposures=200)
        try:
            curve.guarantee(0.05)
        except InputError:
            continue
        passed += 1
    assert passed / 300 <= 0.1 + 2 * np.sqrt(0.09 / 300)
