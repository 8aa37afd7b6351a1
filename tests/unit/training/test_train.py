"""Training of the reference network."""

import numpy as np

from astrotriton.training.train import _widened


def test_a_network_goes_on_from_one_of_fewer_channels():
    kernel, bias = np.ones((3, 3, 1, 4), np.float32), np.ones(4, np.float32)
    wide, kept = _widened([kernel, bias], 5)
    assert wide.shape == (3, 3, 5, 4)
    np.testing.assert_array_equal(wide[:, :, :1], kernel)
    assert not wide[:, :, 1:].any()
    assert kept is bias
