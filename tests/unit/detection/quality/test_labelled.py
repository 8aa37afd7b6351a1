import numpy as np
import pytest

from astrotriton.detection.quality.labelled import LabelledField, ValidationSet


def field(seed: int, transients: int) -> LabelledField:
    rng = np.random.default_rng(seed)
    image = rng.normal(3.0, 2.0, (70, 90)).astype(np.float32)
    image[:5, :7] = np.nan
    image[30, 40] = 2e4
    return LabelledField(image, rng.uniform(0, 60, (transients, 2)), rng.uniform(5, 30, transients))


def test_a_set_comes_back_with_its_truth_and_pixels_within_a_share_of_the_noise():
    made = ValidationSet([field(1, 4), field(2, 0), field(3, 1)], "three fields, " * 20)
    content = made.to_fits()
    again = ValidationSet.from_fits(content)
    assert again.description == made.description.strip()
    assert len(again.fields) == 3
    for one, other in zip(again.fields, made.fields, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.snr, other.snr)
        np.testing.assert_array_equal(np.isnan(one.image), np.isnan(other.image))
        assert one.image.dtype == np.float32
        assert np.nanmax(np.abs(one.image - other.image)) < 2.0 / 16
    assert made.to_fits() == content


@pytest.mark.parametrize("content", [b"", b"SIMPLE", b"\x00" * 5760])
def test_what_is_no_set_is_said_to_be_none(content):
    with pytest.raises(ValueError, match=r"validation\.fits"):
        ValidationSet.from_fits(content)
