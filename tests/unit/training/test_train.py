"""What the network is shown while it learns."""

import numpy as np
import pytest

from astrotriton.training.train import POLARITIES, Training, _crops, _input, _widened

SIDE = 8


def batches(planes, **changes):
    """Endless batches of one field, whose images are told apart by their values."""
    given = {"fields": 1, "batch": 400, "crop": 4, "left_out": 0.0}
    how = Training(planes=planes, **{**given, **changes})
    images = np.zeros((1, SIDE, SIDE, 3 if planes else 1), np.float16)
    images[..., 0] = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 1
    if planes:
        images[..., 1], images[..., 2] = 100.0, 200.0
    targets = np.zeros((1, SIDE, SIDE, len(POLARITIES)), np.uint8)
    targets[..., 0] = 1
    return next(_crops(images, targets, how))


@pytest.mark.parametrize("planes", [False, True])
def test_half_of_it_is_negated_with_the_signs_exchanged(planes):
    x, y = batches(planes)
    assert x.shape == (400, 4, 4, 5 if planes else 1)
    negated = x[:, 0, 0, 0] < 0
    assert 0.4 < negated.mean() < 0.6
    assert (np.sign(x[..., 0]) == np.where(negated, -1, 1)[:, None, None]).all()
    np.testing.assert_array_equal(y[negated][..., 1], 1.0)
    np.testing.assert_array_equal(y[~negated][..., 0], 1.0)
    if planes:
        # What the negative brightens by, its template has.
        assert set(np.unique(x[negated][..., 1])) == {200.0}
        assert set(np.unique(x[~negated][..., 1])) == {100.0}
        np.testing.assert_array_equal(x[..., 3:], 1.0)


def test_images_are_left_out_each_by_itself_and_said_to_be():
    x, _ = batches(True, left_out=0.3)
    there = x[:, 0, 0, 3:].astype(bool)
    assert (np.abs(there.mean(axis=0) - 0.7) < 0.1).all()
    assert len(np.unique(there, axis=0)) == 4
    shown = x[:, :, :, 1:3]
    np.testing.assert_array_equal((shown != 0.0).all(axis=(1, 2)), there)
    np.testing.assert_array_equal((shown != 0.0).any(axis=(1, 2)), there)


def test_channels_are_in_the_order_of_the_card():
    image = np.stack([np.full((2, 2), value, np.float32) for value in (1.0, 2.0, 3.0)], axis=-1)
    np.testing.assert_array_equal(_input(image, np.array([True, False]))[0, 0], [1, 2, 0, 1, 0])
    alone = _input(image[..., :1], np.empty(0, bool))
    np.testing.assert_array_equal(alone, image[..., :1])


def test_a_network_goes_on_from_one_of_fewer_channels():
    kernel, bias = np.ones((3, 3, 1, 4), np.float32), np.ones(4, np.float32)
    wide, kept = _widened([kernel, bias], 5)
    assert wide.shape == (3, 3, 5, 4)
    np.testing.assert_array_equal(wide[:, :, :1], kernel)
    assert not wide[:, :, 1:].any()
    assert kept is bias
