import numpy as np
import pytest

from astrotriton.detection.quality.evaluation import (
    Sample,
    brier,
    expected_calibration_error,
    reliability,
    risk_coverage_area,
)

TRUTH = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 90.0]])
SNR = np.array([5.0, 10.0, 20.0])
FOUND = np.array([[10.5, 10.0], [50.0, 51.0], [50.0, 50.0], [30.0, 30.0]])
SCORE = np.array([0.9, 0.8, 0.7, 0.6])


def sample() -> Sample:
    return Sample.of_field(FOUND, SCORE, TRUTH, SNR)


def test_counts() -> None:
    one = sample()
    assert one.transients == 3
    assert one.completeness(0.0) == pytest.approx(2 / 3)
    assert one.completeness(0.85) == pytest.approx(1 / 3)
    assert one.completeness(0.0, 15.0, 25.0) == 0.0
    assert np.isnan(one.completeness(0.0, 30.0, 40.0))
    assert one.purity(0.0) == pytest.approx(0.5)
    assert np.isnan(one.purity(0.99))
    assert one.false_positives_per_field(0.65) == 1.0
    np.testing.assert_allclose(one.error[:2], [0.5, 1.0])


def test_average_precision_by_hand() -> None:
    # Found at ranks 1 and 2 with purity 1; the third transient is never found.
    assert sample().average_precision() == pytest.approx(2 / 3)
    assert Sample.join([sample(), sample()]).average_precision() == pytest.approx(2 / 3)


def test_threshold_of_completeness() -> None:
    assert sample().threshold_of_completeness(0.6) == 0.8
    assert np.isnan(sample().threshold_of_completeness(0.9))


def test_calibration_error_of_a_calibrated_and_of_a_boastful_score() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(40_000)
    real = rng.random(40_000) < confidence
    assert expected_calibration_error(confidence, real) < 0.01
    assert expected_calibration_error(np.clip(confidence + 0.2, 0, 1), real) > 0.1
    assert brier(confidence, real) == pytest.approx(1 / 6, abs=0.005)
    said, happened, count = reliability(confidence, real, 10)
    assert count.sum() == 40_000
    np.testing.assert_allclose(said, happened, atol=0.03)


def test_risk_coverage_prefers_doubt_where_it_is_wrong() -> None:
    wrong = np.array([False, False, False, True])
    good = risk_coverage_area(np.array([0.9, 0.8, 0.7, 0.1]), wrong)
    bad = risk_coverage_area(np.array([0.1, 0.2, 0.3, 0.9]), wrong)
    assert good == pytest.approx(1 / 16)
    assert bad > good
