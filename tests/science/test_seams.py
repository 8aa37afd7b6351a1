"""A source on a seam is reported once, as it would be in the middle of a tile."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.scoring.score import Scored, finish, prepare_exposure
from astrotriton.simulation.psf import Moffat

pytestmark = pytest.mark.science

# Tiles of 512 px that share 96 start every 416 px; the seam lies 48 px further on.
STRIDE, SEAM = 416, 464


def sky(shape: tuple[int, int], x: int, y: int) -> np.ndarray:
    """A source at (x, y) in the same noise around it, wherever it is."""
    patch = np.random.default_rng(8).normal(size=(160, 160))
    Moffat(4.0, 3.5).add(patch, 80.0, 80.0, 150.0, 30)
    image = np.random.default_rng(9).normal(size=shape)
    image[y - 80 : y + 80, x - 80 : x + 80] = patch
    return image.astype(np.float32)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (SEAM, 200),
        (SEAM - 1, 200),
        (200, SEAM),
        (SEAM, SEAM),
        (SEAM - 1, SEAM),
        (STRIDE, 200),
        (512, 200),
        (STRIDE + 3, 512),
    ],
)
def test_on_a_seam(score: Callable[..., Scored], x: int, y: int) -> None:
    # A shift by a multiple of 8 leaves the source where it was on the network's pooling grid.
    middle = (x % 8 + 256, y % 8 + 256)
    expected = _source(score(sky((900, 900), *middle), []), *middle)
    found = _source(score(sky((900, 900), x, y), []), x, y)
    assert found.x - x == pytest.approx(expected.x - middle[0], abs=0.1)
    assert found.y - y == pytest.approx(expected.y - middle[1], abs=0.1)
    assert found.probability == pytest.approx(expected.probability, abs=1e-3)


def _source(result: Scored, x: int, y: int):
    near = [d for d in result.detections if np.hypot(d.x - x, d.y - y) < 10 and d.is_real]
    assert len(near) == 1
    return near[0]


def test_a_corner_of_the_exposure(score: Callable[..., Scored]) -> None:
    image = np.random.default_rng(9).normal(size=(600, 600))
    Moffat(4.0, 3.5).add(image, 4.0, 595.0, 200.0, 30)
    near = [d for d in score(image.astype(np.float32)).detections if d.x < 15 and d.y > 585]
    assert len([d for d in near if d.outcome == "kept" and d.is_real]) == 1


@pytest.mark.parametrize("side", [2048, 4096])
def test_memory_is_bounded_by_the_tiles_under_way(card: UNetModel, side: int) -> None:
    image = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    exposure = Exposure.from_array(image)
    tracemalloc.start()
    try:
        tiled = prepare_exposure(exposure, card, [])
        nothing = np.zeros((1, *card.output.shape[1:]), np.float32)
        tiled.answer(lambda _: nothing, 1)
        finish(tiled)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tile = 4 * card.tile_size[0] * card.tile_size[1]
    print(f"{side}x{side}: peak {peak / tile:.1f} tiles, exposure {image.nbytes / tile:.0f} tiles")
    assert peak < 24 * tile
