import io
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients


def field(seed: int, transients: int) -> LabelledField:
    rng = np.random.default_rng(seed)
    image = rng.normal(3.0, 2.0, (70, 90)).astype(np.float32)
    image[:5, :7] = np.nan
    image[30, 40] = 2e4
    polarity = rng.choice([1, -1], transients)
    truth = Transients.of(
        rng.uniform(0, 60, (transients, 2)), rng.uniform(5, 30, transients), polarity, fwhm=3.5
    )
    return LabelledField(image, truth)


def test_a_set_comes_back_with_its_truth_and_pixels_within_a_share_of_the_noise():
    made = ValidationSet([field(1, 4), field(2, 0), field(3, 1)], "three fields, " * 20)
    content = made.to_fits()
    again = ValidationSet.from_fits(content)
    assert again.description == made.description.strip()
    assert len(again.fields) == 3
    for one, other in zip(again.fields, made.fields, strict=True):
        for name in ("positions", "snr", "polarity", "fwhm", "hosted", "saturated"):
            np.testing.assert_array_equal(
                getattr(one.transients, name), getattr(other.transients, name)
            )
        np.testing.assert_array_equal(np.isnan(one.image), np.isnan(other.image))
        assert one.image.dtype == np.float32
        assert np.nanmax(np.abs(one.image - other.image)) < 2.0 / 16
    assert made.to_fits() == content


def test_companions_come_back_with_the_field_that_they_belong_to():
    first, second = field(1, 2), field(2, 1)
    images = {"science": first.image + 100.0, "template": np.flipud(first.image) + 90.0}
    made = ValidationSet([replace(first, companions=images), second], "two fields")
    again = ValidationSet.from_fits(made.to_fits())
    assert [set(one.companions) for one in again.fields] == [{"science", "template"}, set()]
    for name, image in images.items():
        found = again.fields[0].companions[name]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(image))
        assert np.nanmax(np.abs(found - image)) < 2.0 / 16
    exposure = again.fields[0].exposure()
    assert set(exposure.companions) == {"science", "template"}

    science = made.showing(["science"])
    assert [set(one.companions) for one in science.fields] == [{"science"}, set()]
    assert made.showing([]).to_fits() == ValidationSet([first, second], "two fields").to_fits()


def test_a_companion_of_no_field_is_refused():
    made = ValidationSet([field(1, 2)], "a field").to_fits()
    with fits.open(io.BytesIO(made)) as hdus:
        small = fits.ImageHDU(np.zeros((3, 3), np.float32), name="SCIENCE")
        for place in (1, 2):
            file = io.BytesIO()
            fits.HDUList([*hdus[:place], small, *hdus[place:]]).writeto(file)
            with pytest.raises(ValueError, match="a SCIENCE that is of no field"):
                ValidationSet.from_fits(file.getvalue())


@pytest.mark.parametrize("content", [b"", b"SIMPLE", b"\x00" * 5760])
def test_what_is_no_set_is_said_to_be_none(content):
    with pytest.raises(ValueError, match=r"validation\.fits"):
        ValidationSet.from_fits(content)
