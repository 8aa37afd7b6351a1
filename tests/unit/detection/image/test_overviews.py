"""A whole exposure as one picture."""

import io

import numpy as np
import pytest
from PIL import Image

from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.overviews import Box, overview, view

GREY, WHITE = 58, 255  # of the background, and of 50 sigma


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), float)


def sky(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 100.0, np.float32)


def test_a_small_exposure_is_kept_as_it_is():
    image = sky(300, 420)
    image[10:20, 30:50] = 1000.0
    image[200:210, 100:110] = np.nan
    kept = overview(Exposure.from_array(image), 100.0, 2.0, 512)
    shown = pixels(kept.jpeg)
    assert kept.binning == 1
    assert shown.shape == (300, 420)
    assert shown[15, 40] == pytest.approx(WHITE, abs=12)
    assert shown[205, 105] == pytest.approx(0, abs=12)
    assert shown[100, 300] == pytest.approx(GREY, abs=4)


@pytest.mark.parametrize("shape", [(700, 1000), (701, 999), (1000, 130)])
def test_a_large_one_is_averaged_in_squares(shape):
    """Of pixels that can be used; at the edge, squares are smaller."""
    image = sky(*shape)
    image[:, :100] = 400.0
    image[0:8:2, 100:108] = np.nan  # half of each square
    image[300:316, 108:124] = np.nan
    kept = overview(Exposure.from_array(image), 100.0, 2.0, 250)
    assert kept.binning == 4
    shown = pixels(kept.jpeg)
    assert shown.shape == tuple(-(-length // 4) for length in shape)
    assert shown[10, 10] == pytest.approx(WHITE, abs=12)
    assert shown[0, 26] == pytest.approx(GREY, abs=30)
    assert shown[77, 29] == pytest.approx(0, abs=30)
    assert shown[-1, -1] == pytest.approx(GREY, abs=12)


def test_sigma_is_that_of_the_average():
    image = sky(256, 256) + 10.0
    kept = overview(Exposure.from_array(image), 100.0, 10.0, 64)
    # 1 sigma of a pixel is 4 of the average of 16.
    assert pixels(kept.jpeg)[30, 30] == pytest.approx(1 + 254 * 0.4153, abs=4)


def test_a_view_has_its_first_row_at_the_bottom_and_is_not_too_large():
    image = sky(512, 600)
    image[100:132, 200:264] = 1000.0
    kept = overview(Exposure.from_array(image), 100.0, 2.0, 300)
    part = pixels(view(kept, Box(96, 192, 64, 96), 1024))
    assert part.shape == (32, 48)
    assert part[-10, 15] == pytest.approx(WHITE, abs=12)
    assert part[5, 15] == pytest.approx(GREY, abs=12)
    assert max(pixels(view(kept, Box(0, 0, 512, 600), 100)).shape) == 100
    # Whatever is asked for, something of the picture is shown.
    assert pixels(view(kept, Box(0, 0, 10**6, 10**6), 1024)).shape == (256, 300)
    assert pixels(view(kept, Box(0, 0, 0, 0), 1024)).shape == (1, 1)
    assert pixels(view(kept, Box(9000, 9000, 10, 10), 1024)).shape == (1, 1)
