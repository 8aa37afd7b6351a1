"""Labelled exposures of one's own, from a folder."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.export.validation_sets import ValidationSetError, open_fields

SHAPE = (40, 50)
TRUTH = {
    "description": "our own night",
    "fields": [
        {"file": "a.npy", "transients": [{"x": 3.0, "y": 4.0, "snr": 9.0, "polarity": -1}]},
        {"file": "b.fits", "hdu": "DIFF", "science_hdu": "SCI", "transients": []},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    image = rng.normal(size=SHAPE).astype(np.float32)
    image[5, 6] = np.nan
    np.save(tmp_path / "a.npy", image)
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(rng.normal(size=SHAPE).astype(np.float32), name=n) for n in ("DIFF",)]
    hdus += [fits.ImageHDU(np.full(SHAPE, 7.0, np.float32), name="SCI")]
    fits.HDUList(hdus).writeto(tmp_path / "b.fits")
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return tmp_path


def test_a_folder_with_its_truth(folder: Path) -> None:
    found = open_fields(str(folder))
    assert found.description == "our own night"
    first, second = found.fields
    assert first.image.shape == SHAPE
    assert np.isnan(first.image[5, 6])
    assert np.count_nonzero(np.isnan(first.image)) == 1
    assert first.transients.positions.tolist() == [[3.0, 4.0]]
    assert first.transients.polarity.tolist() == [-1]
    assert len(second.transients) == 0
    assert np.all(second.companions["science"] == 7.0)


def test_one_file(tmp_path: Path) -> None:
    image = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    truth = Transients.of(np.array([[3.0, 4.0]]), np.array([9.0]))
    content = ValidationSet([LabelledField(image, truth)], "as it travels").to_fits()
    (tmp_path / "validation.fits").write_bytes(content)
    assert open_fields(str(tmp_path)).description == "as it travels"


def _without(file: str):
    return lambda folder: (folder / file).unlink()


def _with(file: str, content: bytes):
    return lambda folder: (folder / file).write_bytes(content)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("truth.json"), "has no truth.json"),
        (_without("a.npy"), "a.npy: truth.json names it"),
        (_with("truth.json", b"[]"), "truth.json: "),
        (_with("truth.json", b'{"fields": [{"file": "a.npy", "transients": []}]}'), "no transient"),
        (_with("a.npy", b"nothing"), "a.npy, exposure"),
        (_with("a.npy", _npy(np.zeros(3))), "a.npy, exposure"),
    ],
)
def test_what_cannot_be_judged_on_is_named(folder: Path, damage, said: str) -> None:
    damage(folder)
    with pytest.raises(ValidationSetError, match=said):
        open_fields(str(folder))


def test_a_place_that_is_none() -> None:
    with pytest.raises(ValidationSetError, match="s3://bucket/key"):
        open_fields("s3://UPPER/..")
