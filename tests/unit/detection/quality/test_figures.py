import numpy as np
import pytest

from astrotriton.detection.quality.figures import ScoredField, curves, figures
from astrotriton.training.weights import load_card
from astrotriton.wire.columns import nothing_known
from astrotriton.wire.detections import Detection

TRUTH = np.array([(10.0, 10.0), (50.0, 50.0), (90.0, 20.0)])
SNR = np.array([20.0, 9.0, 4.0])


def detection(x: float, y: float, confidence: float | None, **more) -> Detection:
    outcome = "kept" if confidence is not None else "unscored"
    values = {
        **nothing_known(Detection),
        **{"id": 0, "rank": 1, "is_real": False, "polarity": 1, "outcome": outcome, "flags": ()},
        **{"x": x, "y": y, "confidence": confidence},
    }
    return Detection(**values | more)


@pytest.fixture
def scored() -> list[ScoredField]:
    found = [
        detection(10.5, 10.0, 0.9, probability=0.8),
        detection(50.0, 50.5, 0.7, probability=0.9),
        detection(30.0, 70.0, 0.6, probability=0.2),
        detection(0.0, 0.0, None),
    ]
    return [
        ScoredField.of(found, TRUTH, SNR),
        ScoredField.of([], np.empty((0, 2)), np.empty(0)),
    ]


def test_the_figures_are_those_of_the_matched_detections(scored):
    found = figures(scored, load_card())
    assert found["completeness"] == 1.0  # of the bright ones
    assert found["purity"] == pytest.approx(2 / 3)
    assert found["false_positives_per_field"] == 0.5
    assert found["average_precision"] == pytest.approx(2 / 3)
    assert found["centroid_error_px"] == pytest.approx(0.5)
    assert found["brier"] == pytest.approx((0.1**2 + 0.3**2 + 0.6**2) / 3)
    assert found["brier_uncalibrated"] == pytest.approx((0.2**2 + 0.1**2 + 0.2**2) / 3)
    assert found["validation_fields"] == 2
    assert found["validation_transients"] == 3
    assert 0.0 <= found["interval_coverage_90"] <= 1.0
    assert 0.0 <= found["fdr_realised"] <= 1.0


def test_without_a_detection_there_is_nothing_to_be_right_about():
    empty = [ScoredField.of([], TRUTH, SNR)]
    found = figures(empty, load_card())
    assert found["average_precision"] == 0.0
    assert np.isnan(found["ece"])
    assert curves(empty).reliability.x == []


def test_the_diagrams_count_what_they_stand_for(scored):
    drawn = curves(scored)
    assert drawn.completeness.x == [4.5, 9.0, 25.0]
    assert drawn.completeness.y == [0.0, 1.0, 1.0]
    assert drawn.completeness.count == [1, 1, 1]
    assert drawn.precision_recall.y == pytest.approx([1.0, 1.0, 2 / 3])
    assert sum(drawn.reliability.count) == 3
