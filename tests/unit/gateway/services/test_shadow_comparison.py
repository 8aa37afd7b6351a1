"""A challenger's detections beside those that were answered."""

from types import SimpleNamespace

import pytest

from astrotriton.gateway.services.shadow import compare


def detection(x: float, y: float, confidence: float | None = 0.9, outcome: str = "kept"):
    return SimpleNamespace(
        x=x, y=y, confidence=confidence, outcome=outcome, is_real=(confidence or 0.0) >= 0.5
    )


def test_pairs_are_told_from_what_one_version_alone_has():
    champion = [
        detection(10, 10, 0.9),
        detection(50, 50, 0.6),
        detection(80, 80, 0.7),
        detection(10, 11, 0.9, "merged"),
    ]
    challenger = [detection(10.5, 10, 0.8), detection(50, 51, 0.4), detection(20, 80, 0.9)]
    found = compare(SimpleNamespace(detections=champion), challenger, 3.0)
    assert (found.matched, found.only_champion, found.only_challenger) == (2, 1, 1)
    assert (found.real, found.verdicts_changed) == (2, 1)
    assert found.mean_difference == pytest.approx(0.15)
    assert found.largest_difference == pytest.approx(0.2)


def test_a_detection_has_one_twin_and_the_closest_go_first():
    champion = [detection(10, 10), detection(12, 10)]
    found = compare(SimpleNamespace(detections=champion), [detection(11.9, 10, 0.5)], 3.0)
    assert (found.matched, found.only_champion, found.only_challenger) == (1, 1, 0)
    assert found.largest_difference == pytest.approx(0.4)


@pytest.mark.parametrize("challenger", [[], [detection(10, 10, None, "unscored")]])
def test_nothing_beside_nothing_differs_by_nothing(challenger):
    found = compare(SimpleNamespace(detections=[]), challenger, 3.0)
    assert (found.matched, found.only_champion, found.only_challenger) == (0, 0, 0)
    assert found.mean_difference is found.largest_difference is None
