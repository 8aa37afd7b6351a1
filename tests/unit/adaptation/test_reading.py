"""A survey's exposures and labels, from files."""

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.adaptation.reading import labels_of, read_labels, read_survey_exposure
from astrotriton.adaptation.survey import Label, UnfitError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.label_tables import LabelTableError


@pytest.fixture
def files(tmp_path):
    """An exposure with its mask in the same file and its science image in another one."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(50, 60)).astype(np.float32)
    mask = np.zeros((50, 60), np.int16)
    mask[:5] = 1
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="DIFF"), fits.ImageHDU(mask, name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "n1.diff.fits")
    fits.PrimaryHDU(image + 100).writeto(tmp_path / "n1_sci.fits")
    return tmp_path


def test_planes_are_found_by_patterns_and_hdus(files):
    found = read_survey_exposure(
        str(files / "n1.diff.fits"),
        {"science": "{folder}/{stem}_sci.fits"},
        {"exposure": "DIFF", "mask": "DQ"},
    )
    assert found.shape == (50, 60)
    assert found.image()[1][:5].all()
    assert found.companions["science"].image()[0].mean() > 90


@pytest.mark.parametrize(
    ("patterns", "hdus", "said"),
    [
        ({"science": "{folder}/{stem}_no.fits"}, {}, "n1_no.fits"),
        ({}, {"exposure": "DIFF", "mask": "NO"}, "mask"),
    ],
)
def test_what_is_missing_is_named(files, patterns, hdus, said):
    with pytest.raises(UnfitError, match=said):
        read_survey_exposure(str(files / "n1.diff.fits"), patterns, hdus)


def test_labels_are_read_by_exposure(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "exposure_id,x,y,label\nn1.diff.fits,3,4.5,real\nn2,1,1,artefact\nn1,9,9,unsure\n"
        "n1,700,1,real\n"
    )
    known = read_labels(path)
    exposure = Exposure.from_array(np.zeros((50, 60), np.float32))
    assert labels_of("night/n1.fits", exposure, known) == [Label(3.0, 4.5, True)]
    assert labels_of("n2.fits", exposure, known) == [Label(1.0, 1.0, False)]
    assert labels_of("n3.fits", exposure, known) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,label\n1,1,real\n", "exposure or exposure_id"),
        ("exposure,x,y\nn1,1,1\n", "label or real"),
        ("exposure,label\nn1,real\n", "no columns x and y"),
    ],
)
def test_a_table_without_a_column_is_refused(tmp_path, text, said):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(LabelTableError, match=said):
        read_labels(path)
