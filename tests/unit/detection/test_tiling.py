import numpy as np
import pytest

from detection.tiling import Tiling, spans


@pytest.mark.parametrize("length", [1, 100, 256, 257, 416, 417, 1000, 4096])
def test_every_pixel_has_one_tile(length: int) -> None:
    covered = np.zeros(length, int)
    for span in spans(length, 256, 96):
        covered[span.low : span.high] += 1
        assert span.start <= span.low
        assert span.high <= span.start + 256
        # A multiple of the network's pooling, so that all tiles see the same grid.
        assert span.start % 8 == 0
    assert (covered == 1).all()


@pytest.mark.parametrize("shape", [(30, 40), (256, 256), (300, 700)])
def test_identity_network_gives_the_image_back(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tiles = Tiling(image, (256, 256), 96)
    assert np.isnan(tiles.probability).all()
    for start in range(0, len(tiles), 2):
        batch = tiles.batch(start, start + 2)
        assert batch.flags.c_contiguous
        tiles.accept(start, batch)
    np.testing.assert_array_equal(tiles.probability, image)


def test_beyond_the_image_is_zero() -> None:
    tile = Tiling(np.ones((30, 40), np.float32), (64, 64), 16).batch(0, 1)
    assert tile.sum() == 30 * 40
