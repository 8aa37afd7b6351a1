"""What the statistics of drift promise, on rows made by hand; tests/science has real ones."""

import numpy as np
import pytest

from astrotriton.detection.quality.drift import (
    DESCRIPTORS,
    LEAST_EXPOSURES,
    Baseline,
    compare,
    follow,
    limit_of_p,
    miscalibration,
    rows_of,
)


def rows(count: int, seed: int, **shifts: float) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, len(DESCRIPTORS)))
    for name, shift in shifts.items():
        made[:, DESCRIPTORS.index(name)] += shift
    return made


def test_windows_like_the_reference_are_seldom_called_drifted():
    alarms = sum(
        any(feature.drifted for feature in compare(rows(100, 2 * seed), rows(40, 2 * seed + 1)))
        for seed in range(100)
    )
    assert alarms <= 5


def test_what_changed_is_named_first():
    features = compare(rows(100, 1), rows(40, 2, noise=1.5, trail_p90=3.0))
    assert [feature.name for feature in features if feature.drifted] == ["trail_p90", "noise"]
    trail = features[0]
    assert trail.live_median - trail.baseline_median == pytest.approx(3.0, abs=0.6)
    assert trail.p_value < limit_of_p()
    assert trail.distance > features[1].distance > features[2].distance


def test_too_few_known_values_are_not_judged():
    few = compare(rows(100, 1), rows(LEAST_EXPOSURES - 1, 2, noise=9.0))
    assert not any(feature.drifted for feature in few)
    assert all(feature.p_value is None for feature in few)
    assert few[0].exposures == LEAST_EXPOSURES - 1

    unknown = rows(40, 2, noise=9.0)
    unknown[:, DESCRIPTORS.index("noise")] = np.nan
    [noise] = [feature for feature in compare(rows(100, 1), unknown) if feature.name == "noise"]
    assert (noise.exposures, noise.p_value, noise.live_median) == (0, None, None)
    assert compare(rows(0, 1), rows(0, 2))[0].exposures == 0


def test_equal_values_are_no_drift():
    same = np.zeros((60, len(DESCRIPTORS)))
    assert not any(feature.drifted for feature in compare(same[:30], same))


def test_the_evidence_less_the_exposures_is_a_martingale():
    """So that alarms by chance are as rare as stated: here on average one in 50 exposures."""
    ends = [follow(rows(30, 2 * s), rows(20, 2 * s + 1), 10**9).evidence for s in range(2000)]
    assert np.mean(ends) == pytest.approx(20.0, abs=4 * np.std(ends) / np.sqrt(len(ends)))


@pytest.mark.parametrize("shift", [1.5, -1.5])
def test_a_shift_of_the_scores_is_found_by_following_them(shift):
    live = np.concatenate([rows(50, 2), rows(100, 3, confidence_mean=shift)])
    trend = follow(rows(100, 1), live)
    assert trend.alarmed_after is not None
    assert 50 < trend.alarmed_after < 100
    assert trend.exposures == 150


def test_scores_that_scatter_more_are_found_too():
    wide = rows(200, 3)
    wide[:, DESCRIPTORS.index("confidence_mean")] *= 3.0
    assert follow(rows(100, 1), wide).alarmed_after is not None


def test_exposures_without_a_score_are_passed_over():
    live = rows(30, 2)
    live[::2, DESCRIPTORS.index("confidence_mean")] = np.nan
    assert follow(rows(100, 1), live).exposures == 15
    nothing = follow(rows(100, 1), live[:0])
    assert (nothing.exposures, nothing.evidence, nothing.alarmed_after) == (0, 0.0, None)


def test_a_reference_comes_back_as_written_and_lacks_what_it_lacked():
    baseline = Baseline(rows(5, 1), "five nights")
    again = Baseline.from_npz(baseline.to_npz())
    np.testing.assert_array_equal(again.rows, baseline.rows)
    assert again.description == "five nights"

    kept = [{"noise": 2.0, "seeing_fwhm": None}, {"noise": 3.0}]
    found = rows_of(kept)
    assert found[:, DESCRIPTORS.index("noise")].tolist() == [2.0, 3.0]
    assert np.isnan(found).sum() == 2 * len(DESCRIPTORS) - 2
    assert rows_of([]).shape == (0, len(DESCRIPTORS))


def test_miscalibration_tells_too_sure_from_right():
    rng = np.random.default_rng(5)
    said = rng.uniform(0.02, 0.98, 2000)
    assert abs(miscalibration(said, rng.random(2000) < said)) < 3
    too_sure = rng.random(2000) < 0.5 + 0.5 * (said - 0.5)
    assert miscalibration(said, too_sure) > 3
    assert np.isnan(miscalibration(np.full(5, 0.5), np.ones(5, bool)))
