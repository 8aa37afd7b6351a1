import numpy as np
import pytest

from astrotriton.detection.image.tiling import padded, plan, spans, undo_view, views_of


@pytest.mark.parametrize("length", [1, 100, 256, 257, 416, 417, 1000, 4096])
def test_every_pixel_has_one_tile(length: int) -> None:
    covered = np.zeros(length, int)
    for span in spans(length, 256, 96):
        covered[span.low : span.high] += 1
        assert span.start <= span.low
        assert span.high <= span.stop <= min(span.start + 256, length)
        # A multiple of the network's pooling, so that all tiles see the same grid.
        assert span.start % 8 == 0
    assert (covered == 1).all()


def test_an_answer_comes_from_far_inside_the_tile() -> None:
    for span in spans(2000, 256, 96):
        assert span.low == 0 or span.low - span.start >= 48
        assert span.high == 2000 or span.stop - span.high >= 48


def test_tiles_go_row_by_row() -> None:
    tiles = plan((300, 700), (256, 256), 96)
    assert [(tile.rows.start, tile.columns.start) for tile in tiles[:5]] == [
        (0, 0),
        (0, 160),
        (0, 320),
        (0, 480),
        (160, 0),
    ]


def test_beyond_the_image_is_zero() -> None:
    assert padded(np.ones((30, 40), np.float32), (64, 64)).sum() == 30 * 40


def test_views_are_different_and_come_back() -> None:
    tile = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    views = views_of(tile, 8)
    np.testing.assert_array_equal(views[0], tile)
    assert len({view.tobytes() for view in views}) == 8
    np.testing.assert_array_equal(
        [undo_view(view, i) for i, view in enumerate(views)], np.stack([tile] * 8)
    )
