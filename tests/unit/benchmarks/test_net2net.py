"""Larger networks that answer as the smaller ones do."""

import numpy as np
import pytest

from astrotriton.training.network import build_unet
from benchmarks.speed.net2net import grow, widen


def test_a_widened_layer_answers_the_same() -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(1, 1, 3, 5)).astype(np.float32)
    pixels = rng.normal(size=3).astype(np.float32)
    wide = widen(kernel, (1, 1, 6, 10))
    assert wide.dtype == np.float32
    answer = np.repeat(pixels, 2) @ wide[0, 0]
    np.testing.assert_allclose(answer, np.repeat(pixels @ kernel[0, 0], 2), rtol=1e-5)


def test_a_widened_layer_keeps_one_channel() -> None:
    kernel = np.ones((3, 3, 1, 4), np.float32)
    np.testing.assert_array_equal(widen(kernel, (3, 3, 1, 8)), np.ones((3, 3, 1, 8)))
    np.testing.assert_array_equal(widen(np.array([1.0, 2.0]), (4,)), [1.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize(("filters", "levels"), [(4, 2), (2, 3), (4, 4)])
def test_a_grown_network_answers_the_same(filters: int, levels: int) -> None:
    rng = np.random.default_rng(2)
    small = build_unet((16, 16), filters=2, levels=2)
    small.set_weights([one + rng.uniform(0.0, 0.1, one.shape) for one in small.get_weights()])
    large = build_unet((16, 16), filters=filters, levels=levels)
    grow(small, large, levels=2, deeper=levels - 2)
    image = rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
    expected = np.asarray(small(image))
    assert expected.std() > 0.0
    np.testing.assert_allclose(np.asarray(large(image)), expected, rtol=1e-4, atol=1e-6)
