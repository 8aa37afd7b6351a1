"""Which positions of two lists are the same source."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astrotriton.detection.sources.matching import isolation, match, nearest

TRUTH = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 90.0]])
FOUND = np.array([[10.5, 10.0], [50.0, 51.0], [50.0, 50.0], [30.0, 30.0]])
SCORE = np.array([0.9, 0.8, 0.7, 0.6])
NONE = np.empty((0, 2))

pixels = st.floats(0, 20, allow_subnormal=False)
positions = st.integers(0, 12).flatmap(lambda n: arrays(np.float64, (n, 2), elements=pixels))


def test_matching_is_one_to_one_and_the_best_score_goes_first() -> None:
    np.testing.assert_array_equal(match(FOUND, SCORE, TRUTH, 3.0), [0, 1, -1, -1])
    np.testing.assert_array_equal(match(FOUND, SCORE[::-1].copy(), TRUTH, 3.0), [0, -1, 1, -1])
    assert len(match(NONE, np.empty(0), TRUTH, 3.0)) == 0


@given(positions, positions)
def test_the_nearest_is_what_a_look_at_all_finds(found, others) -> None:
    index, distance = nearest(found, others, 5.0)
    every = np.linalg.norm(found[:, None] - others[None], axis=2)
    for i in range(len(found)):
        best = every[i].min(initial=np.inf)
        if best < 5.0:
            assert distance[i] == every[i][index[i]]
            np.testing.assert_allclose(distance[i], best)
        elif best > 5.0:
            assert (index[i], distance[i]) == (-1, np.inf)


@given(positions, positions)
def test_no_truth_is_matched_twice_or_from_afar(found, truth) -> None:
    matched = match(found, np.arange(float(len(found))), truth, 5.0)
    taken = matched[matched >= 0]
    assert len(set(taken.tolist())) == len(taken)
    assert (np.linalg.norm(found[matched >= 0] - truth[taken], axis=1) <= 5.0 + 1e-9).all()


def test_isolation_is_the_distance_to_the_rest() -> None:
    np.testing.assert_array_equal(isolation(NONE), [])
    np.testing.assert_array_equal(isolation(TRUTH[:1]), [np.inf])
    np.testing.assert_allclose(isolation(FOUND[1:]), [1.0, 1.0, np.hypot(20, 20)])
