"""A WCS read by wcslib alone is the one that Astropy reads."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from astrotriton.detection.image.wcs import from_icrs, read_wcs, to_icrs


def header(**cards: object) -> fits.Header:
    made = fits.PrimaryHDU(np.zeros((64, 64), np.float32)).header
    made.update(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRPIX1": 32.0,
            "CRPIX2": 30.0,
            "CRVAL1": 150.0,
            "CRVAL2": 2.0,
            "CD1_1": -1e-4,
            "CD1_2": 2e-6,
            "CD2_1": 2e-6,
            "CD2_2": 1e-4,
        }
        | cards
    )
    return made


SIP = {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "A_ORDER": 2,
    "A_2_0": 1e-4,
    "B_ORDER": 2,
    "B_0_2": -2e-4,
}
SCAMP = {f"PV{axis}_{n}": 0.01 * n for axis in (1, 2) for n in (0, 4, 7)} | {"PV1_1": 1, "PV2_1": 1}
TPV = SCAMP | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}


@pytest.mark.parametrize(
    "cards",
    [
        {},
        SIP,
        SCAMP,
        TPV,
        {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"},
        {"RADESYS": "FK4", "EQUINOX": 1950.0, "HISTORY": "CTYPE1 = 'RA---TAN' PV1_7"},
        {"CTYPE1": "GLON-CAR", "CTYPE2": "DEC--TAN"},
    ],
)
def test_it_is_the_one_that_astropy_reads(cards: dict[str, object]) -> None:
    made = header(**cards)
    expected, expected_flags = read_wcs(made, None)
    found, flags = read_wcs(made, made.tostring().encode())
    assert flags == expected_flags
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        pixels = np.random.default_rng(1).uniform(0.0, 63.0, (50, 2))
        np.testing.assert_array_equal(
            found.all_pix2world(pixels, 0), expected.all_pix2world(pixels, 0)
        )
        assert repr(wcs_to_celestial_frame(found)) == repr(wcs_to_celestial_frame(expected))


def test_distortions_move_what_they_should() -> None:
    plain, _ = read_wcs(header(), header().tostring().encode())
    bent, _ = read_wcs(header(**SIP), header(**SIP).tostring().encode())
    assert isinstance(plain, WCS)
    assert isinstance(bent, WCS)
    moved = bent.all_pix2world([[60.0, 60.0]], 0) - plain.all_pix2world([[60.0, 60.0]], 0)
    assert np.abs(moved).max() > 1e-6


def test_a_header_without_wcs_has_none() -> None:
    made = fits.PrimaryHDU(np.zeros((4, 4), np.float32)).header
    assert read_wcs(made, made.tostring().encode()) == (None, {"no_wcs"})


@pytest.mark.parametrize("keyword", ["A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"])
def test_a_polynomial_of_impossible_order_is_refused_at_once(keyword: str) -> None:
    made = header(**SIP | {"AP_ORDER": 2, "BP_ORDER": 2, keyword: 10**9})
    assert read_wcs(made, made.tostring().encode()) == (None, {"bad_wcs"})


@pytest.mark.parametrize(
    "cards",
    [
        dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), 0.0),
        {"CD1_1": 0.0, "CD1_2": 0.0},
        # Of an apparent frame that no conversion to ICRS can be made for.
        {"RADESYS": "FK4", "EQUINOX": 1e300},
        {"RADESYS": "FK5", "EQUINOX": 1e300, "MJD-OBS": 1e300},
    ],
)
def test_a_wcs_without_coordinates_is_flagged(cards: dict[str, object]) -> None:
    made = header(**cards)
    for stored in (None, made.tostring().encode()):
        assert read_wcs(made, stored) == (None, frozenset({"bad_wcs"}))


@pytest.mark.parametrize(
    "cards",
    [
        {},
        SIP,
        SCAMP,
        TPV,
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0},
        {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
    ],
)
def test_pixels_become_sky_and_pixels_again(cards: dict[str, object]) -> None:
    wcs, _ = read_wcs(header(**cards), None)
    assert wcs is not None
    x, y = np.array([0.0, 31.25, 63.0]), np.array([5.0, 30.5, 0.0])
    ra, dec = to_icrs(wcs, x, y)
    back = from_icrs(wcs, np.append(ra, [np.nan, 1.0]), np.append(dec, [0.0, -90.5]))
    np.testing.assert_allclose(back[:, :3], [x, y], atol=0.01)
    assert np.isnan(back[:, 3:]).all()


def test_a_distortion_leads_nothing_far_onto_the_exposure() -> None:
    wcs, _ = read_wcs(header(**SIP), None)
    assert wcs is not None
    ra, dec = np.meshgrid(np.linspace(0.0, 360.0, 90), np.linspace(-90.0, 90.0, 90))
    far = np.hypot(ra - 150.0, dec - 2.0) > 1.0
    x, y = from_icrs(wcs, ra[far], dec[far])
    assert not ((abs(x - 32) < 32) & (abs(y - 32) < 32)).any()
