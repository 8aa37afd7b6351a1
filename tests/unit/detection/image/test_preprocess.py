import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.preprocess import Normalisation, asinh, normalise
from tests.unit.detection.conftest import field

IMAGE = field()
CLEAR = np.zeros(IMAGE.shape, bool)


def test_noise_has_unit_sigma() -> None:
    prepared = normalise(IMAGE * 7 + 1000, CLEAR, Normalisation())
    significance, _, _ = prepared.piece(slice(0, 200), slice(200, 300))
    assert np.std(significance) == pytest.approx(1.0, abs=0.05)
    assert prepared.background == pytest.approx(1000, abs=1)
    assert prepared.noise == pytest.approx(7, rel=0.05)


def test_cells_of_one_value_take_the_noise_of_their_neighbours() -> None:
    data = np.full((512, 512), 0.25, np.float32)
    data[:128] = np.random.default_rng(3).normal(size=(128, 512))
    prepared = normalise(data, np.zeros(data.shape, bool), Normalisation())
    assert prepared.noise == pytest.approx(1.0, rel=0.1)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-1e3, 1e3),
)
def test_scale_and_offset_change_nothing(scale: float, offset: float) -> None:
    first = normalise(IMAGE, CLEAR, Normalisation()).image()
    moved = ((IMAGE.astype(np.float64) + offset) * scale).astype(np.float32)
    second = normalise(moved, CLEAR, Normalisation()).image()
    # What is left is float32 rounding of the offset.
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_input_is_not_modified_and_masked_pixels_are_zero() -> None:
    data = IMAGE.copy()
    data[10:20, 10:20] = np.nan
    before = data.copy()
    prepared = normalise(data, ~np.isfinite(data), Normalisation())
    np.testing.assert_array_equal(data, before)
    image = prepared.image()
    np.testing.assert_array_equal(data, before)
    assert not image[10:20, 10:20].any()
    assert np.isfinite(image).all()
    assert prepared.masked_fraction == pytest.approx(100 / IMAGE.size)


def test_gradient_is_taken_out() -> None:
    slope = np.linspace(0, 20, IMAGE.shape[1], dtype=np.float32)
    prepared = normalise(IMAGE + slope, CLEAR, Normalisation())
    significance, _, _ = prepared.piece(slice(0, 200), slice(0, 60))
    assert abs(np.median(significance)) < 0.3
    assert prepared.gradient == pytest.approx(20 / prepared.noise, rel=0.4)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.full((50, 50), np.nan, np.float32), "no-usable-pixels"),
        (np.full((50, 50), 3.0, np.float32), "no-noise"),
        (np.zeros((5, 5), np.float32), "no-usable-pixels"),
    ],
)
def test_nothing_to_score(data: np.ndarray, code: str) -> None:
    with pytest.raises(InputError) as caught:
        normalise(data, ~np.isfinite(data), Normalisation())
    assert caught.value.code == code


def test_extreme_values_stay_finite() -> None:
    data = IMAGE.copy()
    data[5, 5], data[6, 6] = 3e38, -3e38
    assert np.isfinite(normalise(data, CLEAR, Normalisation()).image()).all()


def test_pieces_make_the_whole() -> None:
    prepared = normalise(IMAGE, CLEAR, Normalisation())
    whole = prepared.image()
    for rows in (slice(0, 90), slice(90, 200)):
        for columns in (slice(0, 101), slice(101, 300)):
            significance, _, _ = prepared.piece(rows, columns)
            np.testing.assert_allclose(prepared.view(significance), whole[rows, columns], atol=1e-5)


def test_saturated_pixels_are_told() -> None:
    data = IMAGE.copy()
    data[5, 7] = 5000.0
    prepared = normalise(data, CLEAR, Normalisation())
    _, _, saturated = prepared.piece(slice(0, 200), slice(0, 300), 4000.0)
    np.testing.assert_array_equal(np.argwhere(saturated), [[5, 7]])


def test_stretch_is_the_inverse_hyperbolic_sine() -> None:
    values = np.array([0.0, -0.0, 1e-20, 1e-4, -0.3, 1.0, -25.0, 1e6, -1e12], np.float32)
    np.testing.assert_allclose(asinh(values), np.arcsinh(values), rtol=1e-6, atol=2e-7)
