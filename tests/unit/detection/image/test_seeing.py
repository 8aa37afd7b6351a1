"""The seeing that headers and callers state."""

import pytest
from astropy.io import fits

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.seeing import Seeing, seeing_of_header, seeing_of_request

ARCSEC = 0.25  # of a pixel


@pytest.mark.parametrize(
    ("cards", "pixels"),
    [
        ([("FWHM", 5.2, "Median FWHM in pixels")], 5.2),
        ([("FWHM", 5.2, "")], 5.2),
        ([("FWHM", 1.3, "[arcsec] of stars")], 5.2),
        ([("FWHM", 0.7, "")], 2.8),  # too narrow for pixels
        ([("SEEING", 1.3, "")], 5.2),
        ([("SEEING", 2.1, "[pixels]")], 2.1),
        ([("IQ", 1.0, "arcsec")], 4.0),
        ([("PSF_FWHM", 3.5, ""), ("SEEING", 1.3, "")], 3.5),
        ([("FWHM", -1.0, ""), ("SEEING", 1.3, "")], 5.2),
        ([("FWHM", "NaN", ""), ("SEEING", 1.3, "")], 5.2),
        ([("FWHM", 5000.0, "")], None),
        ([("FWHM", True, "")], None),
        ([("G-SEEING", 1.6, "[arcsec] Guider average seeing")], None),
        ([], None),
    ],
)
def test_the_usual_keywords(cards: list[tuple[str, object, str]], pixels: float | None) -> None:
    expected = None if pixels is None else Seeing(pytest.approx(pixels), "header")
    assert seeing_of_header(fits.Header(cards), ARCSEC) == expected


def test_arcseconds_say_nothing_without_a_wcs() -> None:
    assert seeing_of_header(fits.Header([("SEEING", 1.3, "")]), None) is None


def test_what_a_caller_states() -> None:
    assert seeing_of_request(4.0, "px", None) == Seeing(4.0, "request")
    assert seeing_of_request(1.0, "arcsec", ARCSEC) == Seeing(4.0, "request")
    with pytest.raises(InputError, match="give it in pixels") as caught:
        seeing_of_request(1.0, "arcsec", None)
    assert (caught.value.code, caught.value.field) == ("no-wcs", "seeing_fwhm")
    with pytest.raises(InputError, match=r"0\.8 to 25 px") as caught:
        seeing_of_request(0.4, "px", ARCSEC)
    assert (caught.value.code, caught.value.field) == ("seeing-range", "seeing_fwhm")
