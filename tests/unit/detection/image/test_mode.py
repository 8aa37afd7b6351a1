"""Mode and noise of cells: SExtractor's estimate, as SEP has it."""

import numpy as np
import pytest
import sep

from astrotriton.detection.image.mode import modes

CELL = 64


def sky(seed: int, sources: int, peak: float) -> np.ndarray:
    """A cell of unit noise around 0 with so many point sources, float32."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:CELL, :CELL]
    image = rng.normal(size=(CELL, CELL))
    for column, row in rng.uniform(0, CELL, (sources, 2)):
        image += peak * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8.0)
    return image.astype(np.float32)


@pytest.mark.parametrize(("sources", "peak"), [(0, 0.0), (3, 50.0), (20, 10.0)])
def test_they_are_those_of_sep(sources: int, peak: float) -> None:
    cells = [sky(seed, sources, peak) for seed in range(8)]
    image = np.hstack(cells)
    mask = np.random.default_rng(9).random(image.shape) < 0.1
    level, noise = modes(image, mask, np.arange(0, image.shape[1] + 1, CELL), 0.5)
    for k, cell in enumerate(cells):
        ignored = np.ascontiguousarray(mask[:, k * CELL : (k + 1) * CELL])
        expected = sep.Background(cell, mask=ignored, bw=CELL, bh=CELL)
        # The median of so many pixels has a standard error of 0.02.
        assert level[k] == pytest.approx(expected.globalback, abs=0.01 * expected.globalrms)
        assert noise[k] == pytest.approx(expected.globalrms, rel=0.01)


def test_a_cell_with_too_few_usable_pixels_has_none() -> None:
    image, mask = np.zeros((4, 30), np.float32), np.zeros((4, 30), bool)
    mask[:3, :10] = mask[:2, 10:20] = mask[:, 20:] = True
    level, noise = modes(image, mask, np.array([0, 10, 20, 30]), 0.5)
    np.testing.assert_array_equal(level, [np.nan, 0.0, np.nan])
    np.testing.assert_array_equal(noise, [np.nan, 0.0, np.nan])


def test_what_is_masked_has_no_say() -> None:
    image, edges = sky(3, 0, 0.0), np.array([0, CELL])
    mask = np.zeros(image.shape, bool)
    mask[:20] = True
    expected = modes(image, mask, edges, 0.5)
    image[:20] = 1e6
    np.testing.assert_array_equal(modes(image, mask, edges, 0.5), expected)


def test_an_even_cell_is_its_value_without_noise() -> None:
    image = np.full((8, 8), 2.5, np.float32)
    found = modes(image, np.zeros(image.shape, bool), np.array([0, 8]), 0.5)
    np.testing.assert_allclose(found, [[2.5], [0.0]], atol=1e-6)
