import io

import numpy as np
from PIL import Image

from astrotriton.detection.image.cutouts import cut_out, png
from astrotriton.detection.image.exposure import Exposure

SIDE, HALF = 63, 31


def test_grey_is_the_asinh_of_the_significance():
    rng = np.random.default_rng(5)
    noise, background = 7.0, 1000.0
    sigma = rng.uniform(-20.0, 80.0, size=(90, 120)).astype(np.float32)
    exposure = Exposure.from_array(background + noise * sigma)
    (picture,) = cut_out(exposure, [(50.4, 40.6)], background, noise)

    shown = np.clip(sigma[41 - HALF : 41 + HALF + 1, 50 - HALF : 50 + HALF + 1], -5.0, 50.0)
    low, high = np.arcsinh(-1.0), np.arcsinh(10.0)
    expected = 1.0 + 254.0 * (np.arcsinh(shown / 5.0) - low) / (high - low)
    assert np.abs(picture - expected).max() < 1.0
    assert picture.min() == 1
    assert picture.max() == 255


def test_what_is_unusable_or_beyond_the_edge_is_0():
    image = np.ones((80, 70), np.float32)
    image[10, 12], image[11, 12] = np.nan, np.inf
    exposure = Exposure.from_array(image)
    corner, far = cut_out(exposure, [(5.0, 8.0), (500.0, -500.0)], 0.0, 1.0)
    assert corner.shape == (SIDE, SIDE)
    assert not corner[: HALF - 8].any()
    assert not corner[:, : HALF - 5].any()
    inside = corner[HALF - 8 :, HALF - 5 :]
    assert [*zip(*np.nonzero(inside == 0), strict=True)] == [(10, 12), (11, 12)]
    assert not far.any()
    assert cut_out(exposure, [], 0.0, 1.0).shape == (0, SIDE, SIDE)


def test_the_first_row_of_a_png_is_at_the_bottom():
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[0] = 200
    image = np.asarray(Image.open(io.BytesIO(png(picture.tobytes()))))
    assert (image[-1] == 200).all()
    assert not image[:-1].any()


def test_what_there_are_no_pixels_of_is_transparent_in_a_png():
    picture = np.ones((SIDE, SIDE), np.uint8)
    picture[0] = 0
    opacity = np.asarray(Image.open(io.BytesIO(png(picture.tobytes()))).convert("LA"))[..., 1]
    assert not opacity[-1].any()
    assert (opacity[:-1] == 255).all()
