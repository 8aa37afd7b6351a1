"""Tests that may be looked at at any time: how seldom they alarm falsely, and how soon rightly."""

import math

import msgspec
import numpy as np
import pytest

from astrotriton.detection.quality.sequential import MeanTest


def after(values, **of) -> MeanTest:
    test = MeanTest(**of)
    for value in values:
        test = test.see(float(value))
    return test


def test_false_alarms_are_as_rare_as_they_say_however_often_one_looks():
    rng = np.random.default_rng(1)
    rate = 0.1
    # At the limit itself, where nothing is left to spare; each is looked at 400 times.
    alarms = [after(rng.random(400) < 0.3, lowest=0.0, limit=0.3).alarms(rate) for _ in range(300)]
    assert np.mean(alarms) < rate + 3 * math.sqrt(rate * (1 - rate) / 300)


def test_dependent_observations_alarm_no_more_often():
    rng = np.random.default_rng(2)

    def swinging():
        """The mean depends on what came before, and is at most the limit all the same."""
        value = 0.0
        for _ in range(300):
            value = float(rng.random() < (0.2 if value else 0.05))
            yield value

    alarms = [after(swinging(), lowest=0.0, limit=0.2).alarms(0.1) for _ in range(200)]
    assert np.mean(alarms) < 0.1


@pytest.mark.parametrize(("mean", "least", "most"), [(0.5, 3, 40), (0.2, 30, 400)])
def test_a_larger_mean_is_found_the_sooner_the_larger_it_is(mean, least, most):
    rng = np.random.default_rng(3)
    needed = []
    for _ in range(30):
        test, count = MeanTest(lowest=0.0, limit=0.1), 0
        while not test.alarms(0.01):
            test, count = test.see(float(rng.random() < mean)), count + 1
        needed.append(count)
    assert least <= np.median(needed) <= most


def test_it_is_what_it_was_after_it_was_kept():
    test = after([0.1, -0.2, 0.25], lowest=-0.25, limit=0.02)
    kept = msgspec.json.decode(msgspec.json.encode(test), type=MeanTest)
    assert kept == test
    assert test.mean == pytest.approx(0.05)
    assert MeanTest(lowest=0.0, limit=0.5).mean is None


def test_evidence_does_not_overflow_and_an_alarm_stays():
    test = after([1.0] * 5000, lowest=0.0, limit=0.1)
    assert test.evidence == math.inf
    assert test.alarms(1e-9)
    assert after([0.0] * 5000, lowest=0.0, limit=0.1).see(0.0).evidence == 1.0
    assert after([1.0] * 50 + [0.0] * 5000, lowest=0.0, limit=0.1).alarms(1e-6)


@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_what_is_out_of_range_is_no_observation(value):
    with pytest.raises(ValueError, match="less than"):
        MeanTest(lowest=0.0, limit=0.1).see(value)
