"""What a network is shown while it learns, and what it is to answer."""

import numpy as np
import pytest

from astrotriton.detection.quality.transients import Transients
from astrotriton.training.crops import POLARITIES, Examples, crops, shown, target

SIDE = 8


def examples(planes):
    """One field, whose images are told apart by their values."""
    images = np.zeros((1, SIDE, SIDE, 3 if planes else 1), np.float16)
    images[..., 0] = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 1
    if planes:
        images[..., 1], images[..., 2] = 100.0, 200.0
    targets = np.zeros((1, SIDE, SIDE, len(POLARITIES)), np.uint8)
    targets[..., 0] = 1
    return Examples.known(images, targets)


def batches(known, left_out=0.0):
    return next(crops(known, batch=400, side=4, left_out=left_out, seed=5))


@pytest.mark.parametrize("planes", [False, True])
def test_half_of_it_is_negated_with_the_signs_exchanged(planes):
    x, y, weight = batches(examples(planes))
    assert x.shape == (400, 4, 4, 5 if planes else 1)
    negated = x[:, 0, 0, 0] < 0
    assert 0.4 < negated.mean() < 0.6
    assert (weight == 1.0).all()
    assert (np.sign(x[..., 0]) == np.where(negated, -1, 1)[:, None, None]).all()
    np.testing.assert_array_equal(y[negated][..., 1], 1.0)
    np.testing.assert_array_equal(y[~negated][..., 0], 1.0)
    if planes:
        # What the negative brightens by, its template has.
        assert set(np.unique(x[negated][..., 1])) == {200.0}
        assert set(np.unique(x[~negated][..., 1])) == {100.0}
        np.testing.assert_array_equal(x[..., 3:], 1.0)


def test_images_are_left_out_each_by_itself_and_said_to_be():
    x, _, _ = batches(examples(True), left_out=0.3)
    there = x[:, 0, 0, 3:].astype(bool)
    assert (np.abs(there.mean(axis=0) - 0.7) < 0.1).all()
    assert len(np.unique(there, axis=0)) == 4
    seen = x[:, :, :, 1:3]
    np.testing.assert_array_equal((seen != 0.0).all(axis=(1, 2)), there)
    np.testing.assert_array_equal((seen != 0.0).any(axis=(1, 2)), there)


def test_channels_are_in_the_order_of_the_card():
    image = np.stack([np.full((2, 2), value, np.float32) for value in (1.0, 2.0, 3.0)], axis=-1)
    np.testing.assert_array_equal(shown(image, np.array([True, False]))[0, 0], [1, 2, 0, 1, 0])
    alone = shown(image[..., :1], np.empty(0, bool))
    np.testing.assert_array_equal(alone, image[..., :1])


def test_what_is_not_there_is_said_not_to_be_and_changes_place_with_the_epochs():
    known = examples(True)
    known.there[0] = [True, False]
    x, _, _ = batches(known)
    negated = x[:, 0, 0, 0] < 0
    np.testing.assert_array_equal(x[~negated][:, 0, 0, 3:], [[1.0, 0.0]] * int((~negated).sum()))
    np.testing.assert_array_equal(x[negated][:, 0, 0, 3:], [[0.0, 1.0]] * int(negated.sum()))


def test_what_nobody_knows_does_not_count():
    known = examples(False)
    known.counted[0, :, :3] = False
    x, _, weight = batches(known)
    column = (np.abs(x[..., 0]) - 1) % SIDE
    np.testing.assert_array_equal(weight == 0.0, column < 3)


def test_a_target_is_a_disc_around_each_transient_of_its_sign():
    known = Transients.of(np.array([[3.0, 4.0], [7.5, 0.0]]), np.full(2, 9.0), np.array([1, -1]))
    wanted = target(known, (8, 9))
    assert wanted.shape == (8, 9, 2)
    assert wanted[..., 0].sum() == 13
    assert wanted[4, 3, 0] == 1
    assert wanted[..., 1].sum() == 6
    assert wanted[0, 7:9, 1].tolist() == [1, 1]
