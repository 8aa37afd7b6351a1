import io

import numpy as np
import pytest

from astrotriton.detection.quality.golden import TOLERANCE, Golden

TILE = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
GOLDEN = Golden(TILE, 1.0 - TILE)


def test_a_golden_tile_comes_back_from_its_file() -> None:
    again = Golden.from_npz(GOLDEN.to_npz())
    np.testing.assert_array_equal(again.image, GOLDEN.image)
    np.testing.assert_array_equal(again.probability, GOLDEN.probability)


def test_the_difference_is_the_largest_of_all_copies() -> None:
    answers = np.repeat(GOLDEN.probability, 3, axis=0)
    assert GOLDEN.difference(answers) == 0.0
    answers[2, 0, 3, 4] += 0.25
    assert GOLDEN.difference(answers) == pytest.approx(0.25)


def test_what_is_no_answer_never_passes() -> None:
    broken = GOLDEN.probability.copy()
    broken[0, 0, 0, 0] = np.nan
    for answer in (broken, GOLDEN.probability[:, :, :4]):
        assert not GOLDEN.difference(answer) <= TOLERANCE


def test_pickled_content_is_refused() -> None:
    file = io.BytesIO()
    np.savez(file, image=np.array([{}], object), probability=TILE)
    with pytest.raises(ValueError, match="allow_pickle"):
        Golden.from_npz(file.getvalue())
