"""What callers hold in memory arrives as the file that the gateway reads."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.table import Table
from astropy.wcs import WCS

from astrotriton.client import InferRequest, UnreadableError
from astrotriton.client.contents import file_of, with_planes
from astrotriton.detection.image.exposure import read_exposure
from astrotriton.detection.image.weights import weight_type_of
from astrotriton.detection.sources.candidate_tables import read_candidates

DATA = np.random.default_rng(1).normal(0.0, 3.0, (40, 50)).astype(np.float32)


def wcs() -> WCS:
    found = WCS(naxis=2)
    found.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    found.wcs.crval, found.wcs.crpix = [10.0, 20.0], [25.0, 20.0]
    found.wcs.cdelt = [-1e-4, 1e-4]
    return found


def pixels(content: bytes) -> np.ndarray:
    data, mask = read_exposure(content).image()
    return np.where(mask, np.nan, data)


@pytest.mark.parametrize(
    "given",
    [
        DATA,
        DATA.astype(">f8"),
        DATA * u.adu,
        fits.PrimaryHDU(DATA),
        fits.ImageHDU(DATA),
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(DATA, name="SCI")]),
        NDData(DATA),
        CCDData(DATA, unit="adu"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_an_image_in_memory_is_the_image_that_is_read(given: object) -> None:
    name, content = file_of("exposure", given)
    assert name in ("exposure.npy", "exposure.fits")
    assert np.array_equal(pixels(content), DATA)


def test_a_compressed_image_is_one_too() -> None:
    whole = np.arange(2000, dtype=np.int32).reshape(40, 50)
    _, content = file_of("exposure", fits.CompImageHDU(whole))
    assert np.array_equal(pixels(content), whole)


def test_what_is_masked_is_left_out() -> None:
    masked = np.ma.masked_array(np.arange(2000).reshape(40, 50), mask=np.eye(40, 50, dtype=bool))
    _, content = file_of("exposure", masked)
    assert np.array_equal(np.isnan(pixels(content)), masked.mask)
    assert not np.ma.is_masked(masked.data)


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        (StdDevUncertainty, "standard_deviation"),
        (VarianceUncertainty, "variance"),
        (InverseVariance, "inverse_variance"),
    ],
)
def test_mask_uncertainty_and_wcs_go_along(kind: type, meaning: str) -> None:
    mask = np.eye(40, 50, dtype=bool)
    image = NDData(
        DATA, mask=mask, uncertainty=kind(np.full_like(DATA, 3.0)), wcs=wcs(), unit="nJy"
    )
    request = with_planes(image, None, set())
    assert request == InferRequest(mask_hdu="MASK", weight_hdu="UNCERT")
    _, content = file_of("exposure", image)
    with fits.open(io.BytesIO(content)) as hdus:
        assert np.array_equal(hdus["MASK"].data != 0, mask)
        assert hdus[0].header["BUNIT"] == "nJy"
        assert WCS(hdus[0].header).wcs.crval[1] == 20.0
        assert hdus["UNCERT"].data[3, 4] == 3.0
        assert weight_type_of("UNCERT", [hdus["UNCERT"].header]) == meaning
    assert image.uncertainty.parent_nddata is image


def test_planes_that_are_given_otherwise_stay() -> None:
    image = NDData(DATA, mask=np.eye(40, 50, dtype=bool), uncertainty=StdDevUncertainty(DATA))
    asked = InferRequest(weight_hdu="ERR", tta=True)
    assert with_planes(image, asked, {"exposure", "mask"}) == asked
    assert with_planes(DATA, asked, set()) is asked


def test_a_table_of_candidates_is_read_as_one() -> None:
    rows = {"id": ["a", "b"], "x": [1.5, 2.5], "y": [3.0, 4.0]}
    for given in (Table(rows), pd.DataFrame(rows)):
        _, content = file_of("candidates", given)
        assert [(one.id, one.x, one.y) for one in read_candidates(content, 10, 10_000)] == [
            ("a", 1.5, 3.0),
            ("b", 2.5, 4.0),
        ]


def test_paths_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE")
    assert file_of("exposure", path) == file_of("exposure", str(path)) == ("a.fits", b"SIMPLE")
    assert file_of("mask", b"SIMPLE") == ("mask", b"SIMPLE")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": 1}, "not dict"),
        (np.array(["a"]), "an array of numbers"),
        (NDData(DATA, uncertainty=UnknownUncertainty(DATA)), "cannot be written as FITS"),
    ],
    ids=["dict", "text", "uncertainty"],
)
def test_what_is_no_image_is_refused_before_it_is_sent(given: object, said: str) -> None:
    with pytest.raises(UnreadableError, match=f"exposure: .*{said}"):
        file_of("exposure", given)
