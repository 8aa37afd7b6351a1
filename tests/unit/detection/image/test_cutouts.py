import io

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astrotriton.detection.image.cutouts import (
    cut_out,
    cut_out_unmeasured,
    fits_of,
    kept_levels,
    measured_levels,
    png,
)
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
    image = np.asarray(Image.open(io.BytesIO(png(picture))))
    assert (image[-1] == 200).all()
    assert not image[:-1].any()


def test_what_there_are_no_pixels_of_is_transparent_in_a_png():
    picture = np.ones((SIDE, SIDE), np.uint8)
    picture[0] = 0
    opacity = np.asarray(Image.open(io.BytesIO(png(picture))).convert("LA"))[..., 1]
    assert not opacity[-1].any()
    assert (opacity[:-1] == 255).all()


def test_an_unmeasured_image_is_shown_from_its_own_background():
    rng = np.random.default_rng(7)
    image = (8000.0 + 30.0 * rng.normal(size=(200, 200))).astype(np.float32)
    image[100, 100], image[90, 90] = 8600.0, np.nan
    (kept,) = cut_out_unmeasured(Exposure.from_array(image), [(100.0, 100.0)])
    levels = kept_levels(kept)
    assert levels.background == pytest.approx(8000.0, abs=5.0)
    assert levels.noise == pytest.approx(30.0, rel=0.1)
    shown = levels.counts
    assert np.isnan(shown[HALF - 10, HALF - 10])
    usable = np.isfinite(shown)
    expected = image[100 - HALF : 101 + HALF, 100 - HALF : 101 + HALF]
    # To half a level, which grows with the significance.
    step = 30.0 * np.maximum(0.08, 0.016 * np.abs(expected[usable] - 8000.0) / 30.0)
    assert (np.abs(shown[usable] - expected[usable]) <= step).all()


def test_what_has_no_noise_or_no_pixels_is_cut_out_too():
    flat = Exposure.from_array(np.full((100, 100), 7.0, np.float32))
    inside, far = (kept_levels(one) for one in cut_out_unmeasured(flat, [(50, 50), (900, 900)]))
    assert inside.counts == pytest.approx(7.0, abs=0.1)
    assert np.isnan(far.counts).all()


@pytest.mark.parametrize("stretch", ["asinh", "linear", "log"])
def test_a_stretch_goes_from_black_to_white(stretch):
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = np.asarray(Image.open(io.BytesIO(png(greys, stretch, 10.0))))[::-1].ravel()
    assert shown[0] == 0
    assert shown[1] == 1
    assert (np.diff(shown[1:].astype(int)) >= 0).all()
    levels = measured_levels(np.zeros(SIDE * SIDE, np.uint8).tobytes(), 0.0, 1.0)
    sigma = levels._replace(grey=greys).counts.ravel()
    assert (shown[sigma >= 10.0] == 255).all()
    assert (shown[1:][sigma[1:] < 9.0] < 255).all()
    middle = shown[np.nanargmin(np.abs(sigma))]
    expected = {"linear": 1 / 3, "asinh": 0.379, "log": 0.841}[stretch]
    assert middle == pytest.approx(1 + 254 * expected, abs=2.0)


def test_a_zoom_shows_the_middle():
    grey = np.arange(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8)
    for zoom, side in ((2, 31), (4, 15), (8, 7)):
        shown = np.asarray(Image.open(io.BytesIO(png(grey, zoom=zoom))))
        edge = HALF - side // 2
        assert (shown[::-1] == grey[edge:-edge, edge:-edge]).all()


def test_the_file_of_cutouts_says_where_they_lie():
    image = np.arange(100 * 120, dtype=np.float32).reshape(100, 120)
    exposure, place = Exposure.from_array(image), (50.4, 60.0)
    (pixels,) = cut_out(exposure, [place], 6000.0, 1000.0)
    (science,) = cut_out_unmeasured(exposure, [place])
    planes = {
        "difference": measured_levels(pixels.tobytes(), 6000.0, 1000.0),
        "science": kept_levels(science),
    }
    with fits.open(io.BytesIO(fits_of(planes, place, "adu", RA=None, EXPOSURE="a"))) as hdus:
        assert [one.name for one in hdus[1:]] == ["DIFFERENCE", "SCIENCE"]
        assert hdus[0].header["EXPOSURE"] == "a"
        assert "RA" not in hdus[0].header
        header = hdus["DIFFERENCE"].header
        assert (header["BUNIT"], header["SKYLEVEL"], header["SKYSIGMA"]) == ("adu", 6000.0, 1000.0)
        # IRAF's: a pixel of the exposure plus LTV is one of the cut-out, both from 1.
        row, column = 70 + header["LTV2"], 52 + header["LTV1"]
        assert hdus["DIFFERENCE"].data[row, column] == pytest.approx(image[70, 52], abs=100.0)
