"""Windowed centroids against SEP's."""

import numpy as np
import pytest
import sep

from astrotriton.detection.sources.centroids import DEFAULT_FWHM, PER_FWHM, centroids
from tests.unit.detection.conftest import field

SIGMA = DEFAULT_FWHM / PER_FWHM


@pytest.mark.parametrize("masked", [0.0, 0.02])
def test_they_are_seps(masked: float) -> None:
    rng = np.random.default_rng(5)
    true = rng.uniform(12.0, 188.0, size=(40, 2))
    image = field((200, 200), tuple((x, y, 25.0) for x, y in true))
    mask = rng.random(image.shape) < masked
    image[mask] = 0.0
    asked = true + rng.normal(scale=0.5, size=true.shape)
    x, y, flags = sep.winpos(image, asked[:, 0], asked[:, 1], SIGMA, mask=mask)
    nearest = np.rint(asked).astype(int)
    near = np.hypot(x - asked[:, 0], y - asked[:, 1]) <= 2.0
    good = near & ~mask[nearest[:, 1], nearest[:, 0]]
    found, own = centroids(image, mask, asked, np.ones(len(asked), np.int8))
    assert good.sum() > 30
    np.testing.assert_allclose(found[good], np.stack([x, y], axis=1)[good], atol=0.01)
    np.testing.assert_array_equal(own[good], flags[good])
    # What cannot be trusted stays where it was.
    np.testing.assert_array_equal(found[~good], asked[~good])


def test_what_lies_below_the_background_is_centred_alike() -> None:
    image, mask = field((60, 60), ((30.3, 28.6, 30.0),)), np.zeros((60, 60), bool)
    asked = np.array([(30.0, 29.0)])
    above, _ = centroids(image, mask, asked, np.ones(1, np.int8))
    below, _ = centroids(-image, mask, asked, -np.ones(1, np.int8))
    np.testing.assert_array_equal(below, above)
    np.testing.assert_allclose(above, [(30.3, 28.6)], atol=0.1)


def test_windows_at_the_edge_and_on_nothing() -> None:
    image, mask = field((60, 60), ((1.0, 30.0, 30.0), (30.0, 58.5, 30.0))), np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    asked = np.array([(1.0, 30.0), (30.0, 58.5), (30.0, 30.0)])
    _, _, flags = sep.winpos(image, asked[:, 0], asked[:, 1], SIGMA, mask=mask)
    found, own = centroids(image, mask, asked, np.ones(len(asked), np.int8))
    # SEP documents 64 for the last one, but sets it for apertures only.
    assert own.tolist() == [16, 16, 64 | 32]
    assert flags.tolist() == [16, 16, 32]
    assert tuple(found[2]) == (30.0, 30.0)
    nothing, none = centroids(image, mask, np.empty((0, 2)), np.empty(0, np.int8))
    assert nothing.shape == (0, 2)
    assert none.shape == (0,)
