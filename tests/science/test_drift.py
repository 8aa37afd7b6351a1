"""A camera before and after it changed, seen through the trained network."""

import numpy as np
import pytest

from astrotriton.detection.quality.drift import DESCRIPTORS, RUN_LENGTH, compare, follow
from tests.science.drift_rows import CHANGES, FILE, STEADY, row, seeds, slow

pytestmark = pytest.mark.science

REFERENCE, WINDOW, NIGHT, REPEATS = 160, 40, 400, 100


@pytest.fixture(scope="module")
def camera():
    with np.load(FILE) as arrays:
        assert tuple(arrays["names"]) == DESCRIPTORS, "run `python -m tests.science.drift_rows`"
        return {name: arrays[name] for name in arrays.files if name != "names"}


def split(rows, seed):
    """A reference, and what came after it, drawn anew."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[:REFERENCE]], rows[order[REFERENCE:]]


def drifted(baseline, window):
    return [feature.name for feature in compare(baseline, window) if feature.drifted]


def test_the_rows_are_those_of_the_network_as_it_is(camera, card, predict):
    made = {
        "steady": (row(card, predict, seeds("steady", 1)[0]), 0),
        "seeing": (row(card, predict, seeds("seeing", 1)[0], **CHANGES["seeing"][1]), 0),
        "slow": (row(card, predict, seeds("slow", 101)[100], slow(100)), 100),
    }
    for name, (fresh, index) in made.items():
        kept = camera[name][index]
        np.testing.assert_allclose(
            fresh, kept, rtol=1e-3, err_msg=f"{name}: run `python -m tests.science.drift_rows`"
        )


def test_no_alarm_on_windows_like_the_reference(camera):
    assert len(camera["steady"]) == STEADY
    windows = [split(camera["steady"], seed) for seed in range(REPEATS)]
    alarms = sum(bool(drifted(baseline, rest[:WINDOW])) for baseline, rest in windows)
    print(f"{alarms} false alarms in {REPEATS} windows of {WINDOW} exposures")
    assert alarms <= 0.05 * REPEATS


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found_by_its_name(camera, change):
    baseline, before = camera["steady"][:REFERENCE], camera["steady"][REFERENCE:]
    expected = CHANGES[change][0]
    delay = next(
        (
            count
            for count in range(1, WINDOW + 1)
            # A window that reaches back into the time before the change.
            if expected
            in drifted(baseline, np.concatenate([before[: WINDOW - count], camera[change][:count]]))
        ),
        None,
    )
    named = drifted(baseline, camera[change])
    print(f"{change}: {expected} found after {delay} exposures; in the end {', '.join(named)}")
    assert delay is not None
    assert expected in named


def test_no_alarm_by_following_the_scores_while_nothing_changes(camera):
    nights = [split(camera["steady"], seed) for seed in range(REPEATS)]
    alarms = sum(follow(ref, rest).alarmed_after is not None for ref, rest in nights)
    print(f"{alarms} false alarms in {REPEATS} times {NIGHT} exposures")
    assert alarms <= 0.05 * REPEATS
    # What is promised, for a process that never changes.
    assert NIGHT / RUN_LENGTH <= 0.05


def test_a_slow_change_is_found_by_following_the_scores(camera):
    baseline, before = camera["steady"][:REFERENCE], camera["steady"][REFERENCE:][:100]
    trend = follow(baseline, np.concatenate([before, camera["slow"]]))
    assert trend.alarmed_after is not None
    delay = trend.alarmed_after - len(before)
    print(f"registration that gets worse by 0.006 px an exposure: found after {delay} exposures")
    assert 0 < delay <= len(camera["slow"])
