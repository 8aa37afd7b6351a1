"""What counts as the same detections of two engines."""

from types import SimpleNamespace

import numpy as np
import pytest

from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.export import accuracy
from tests.unit.detection.quality import test_figures
from tests.unit.export import samples

CARD = samples.card()


def detection(x, y, probability):
    """One that is kept."""
    return test_figures.detection(x, y, 0.9, probability=probability)


def differences(monkeypatch, before, after):
    """What `compare_detections` finds between the detections of two engines."""
    answers = iter((before, after))
    monkeypatch.setattr(accuracy, "score", lambda *_: SimpleNamespace(detections=next(answers)))
    field = LabelledField(np.zeros((8, 8), np.float32), test_figures.NONE)
    problems, figures = accuracy.compare_detections([field], CARD, None, None)
    assert figures["detections_compared"] == len(before)
    return problems


def test_the_same_are_the_same(monkeypatch):
    both = [detection(10.0, 10.0, 0.8), detection(40.0, 40.0, 0.6)]
    assert differences(monkeypatch, both, both) == []


def test_of_equally_probable_ones_in_reach_of_each_other_either_may_be_kept(monkeypatch):
    reach = 2.0 * CARD.nms_radius - 0.1
    before = [detection(10.0, 10.0, 0.8)]
    assert differences(monkeypatch, before, [detection(10.0 + reach, 10.0, 0.8)]) == []


@pytest.mark.parametrize(
    ("x", "probability"),
    [(10.0 + 2.0 * CARD.nms_radius + 0.1, 0.8), (14.0, 0.7)],
    ids=["too far", "less probable"],
)
def test_another_one_is_another_one(monkeypatch, x, probability):
    before, after = [detection(10.0, 10.0, 0.8)], [detection(x, 10.0, probability)]
    problems = differences(monkeypatch, before, after)
    assert problems == [
        "field 0 has a detection at (10.0, 10.0) with one engine alone",
        f"field 0 has a detection at ({x:.1f}, 10.0) with one engine alone",
    ]


def test_one_that_is_barely_a_peak_may_be_none_for_the_other(monkeypatch):
    assert differences(monkeypatch, [detection(10.0, 10.0, CARD.threshold)], []) == []
