"""How an exposure was taken, from headers as observatories write them."""

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.image.exposure import read_exposure
from astrotriton.detection.image.observation import observation_of
from astrotriton.detection.image.units import parsed, spelled
from astrotriton.wire.exposures import Observation

MJD = 58334.25  # 2018-08-04T06:00


def header(cards: dict[str, Any]) -> fits.Header:
    return fits.Header(
        [
            (name, *np.atleast_1d(value)) if isinstance(value, list) else (name, value)
            for name, value in cards.items()
        ]
    )


def observed(cards: dict[str, Any], **asked: Any) -> Observation:
    return observation_of([header(cards)], Observation(**asked))


TIMES: dict[str, tuple[dict[str, Any], float | None, str | None]] = {
    "nothing": ({}, None, None),
    "start": ({"MJD-OBS": MJD, "EXPTIME": 172.8}, MJD + 0.001, "MJD-OBS + EXPTIME/2"),
    "start alone": ({"MJD-OBS": MJD}, MJD, "MJD-OBS"),
    "start and end": (
        {"MJD-OBS": MJD, "MJD-END": MJD + 0.01, "EXPTIME": 30.0},
        MJD + 0.005,
        "MJD-OBS, MJD-END",
    ),
    "an end before the start": (
        {"MJD-OBS": MJD, "MJD-END": MJD - 0.01, "EXPTIME": 172.8},
        MJD + 0.001,
        "MJD-OBS + EXPTIME/2",
    ),
    "middle": ({"MJD-OBS": MJD - 1, "MJD-AVG": MJD, "EXPTIME": 30.0}, MJD, "MJD-AVG"),
    "the comment says middle": (
        {"MJD-OBS": [MJD, "[d] MJD at mid-exposure"], "EXPTIME": 30.0},
        MJD,
        "MJD-OBS",
    ),
    "a comment on other things": (
        {"MJD-OBS": [MJD, "MIDAS desc.: O_TIME(4), since midnight"], "EXPTIME": 172.8},
        MJD + 0.001,
        "MJD-OBS + EXPTIME/2",
    ),
    "ZTF": ({"OBSMJD": MJD, "EXPOSURE": 172.8}, MJD + 0.001, "OBSMJD + EXPOSURE/2"),
    "date": ({"DATE-OBS": "2018-08-04T06:00:00.000Z"}, MJD, "DATE-OBS"),
    "date and time": ({"DATE-OBS": "2018-08-04", "TIME-OBS": "06:00:00.0"}, MJD, "DATE-OBS"),
    "date in the middle": ({"DATE-AVG": "2018-08-04T06:00:00"}, MJD, "DATE-AVG"),
    "old date": ({"DATE-OBS": "05/04/87", "UT": " 9:27:27.00"}, 46890.394063, "DATE-OBS"),
    "Julian date": ({"JD": MJD + 2_400_000.5}, MJD, "JD"),
    "a date without a time": ({"DATE-OBS": "2018-08-04"}, None, None),
    "no date": ({"DATE-OBS": "yesterday", "MJD-OBS": "late"}, None, None),
    "0 for unknown": ({"MJD-OBS": 0.0, "DATE-OBS": "0000-00-00T00:00:00"}, None, None),
    "a Julian date as MJD": ({"MJD-OBS": MJD + 2_400_000.5}, None, None),
    "NaN": ({"MJD-OBS": "nan"}, None, None),
    "local time": ({"MJD-OBS": MJD, "TIMESYS": "LOCAL"}, None, None),
}


@pytest.mark.parametrize(("cards", "mjd", "source"), TIMES.values(), ids=TIMES.keys())
def test_the_middle_of_the_exposure(cards, mjd, source):
    found = observed(cards)
    assert found.mjd_mid == (None if mjd is None else pytest.approx(mjd, abs=1e-6))
    assert found.time_source == source
    assert found.time_scale == (None if mjd is None else "UTC")
    assert (found.observed_at is None) == (mjd is None)


@pytest.mark.parametrize(
    ("stated", "scale", "late"),
    [
        (None, "UTC", 0.0),
        ("UTC", "UTC", 0.0),
        ("UT", "UTC", 0.0),
        ("UTC(NIST)", "UTC", 0.0),
        ("UT1", "UT1", 0.0),
        ("TAI", "TAI", 37.0),
        ("TT", "TT", 69.184),
        ("TDB", "TDB", 69.184),
        ("GPS", "TAI", 18.0),
    ],
)
def test_scales_of_time(stated, scale, late):
    """TAI was 37 s, GPS 18 s and TT 69.184 s ahead of UTC in 2018."""
    cards = {"MJD-AVG": MJD} | ({} if stated is None else {"TIMESYS": stated})
    found = observed(cards)
    assert found.time_scale == scale
    assert found.observed_at is not None
    seconds = (datetime(2018, 8, 4, 6, tzinfo=UTC) - found.observed_at).total_seconds()
    assert seconds == pytest.approx(late, abs=0.01)


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        ({"EXPTIME": 330}, 330.0),
        ({"EXPTIME": "12.5"}, 12.5),
        ({"EXPTIME": 0.0}, None),
        ({"EXPTIME": [5e-324, "ms"]}, None),
        ({"EXPTIME": -1.0, "EXPOSURE": 5.0}, 5.0),
        ({"EXPTIME": True}, None),
        ({"EXPOSURE": [50.0, "Exposure time minutes"]}, 3000.0),
        ({"EXPTIME": [500.0, "[ms] exposure"]}, 0.5),
    ],
)
def test_exposure_times(cards, seconds):
    assert observed(cards).exposure_time == seconds


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"FILTER": "i DECam SDSS c0003 7835.0 1470.0"}, "i DECam SDSS c0003 7835.0 1470.0"),
        ({"FILTER": " r "}, "r"),
        ({"FILTER": "NONE", "BAND": "z"}, "z"),
        ({"FILTER": 2}, None),
        ({"FILTER1": "open", "FILTER2": "NB_2.25"}, "NB_2.25"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),
        ({"FILTER1": "clear", "FILTER2": "clear"}, None),
        ({"HIERARCH ESO INS FILT1 NAME": "V_BESS"}, "V_BESS"),
    ],
)
def test_filters(cards, name):
    assert observed(cards).filter == name


@pytest.mark.parametrize(
    ("cards", "zero_point", "source"),
    [
        ({"MAGZERO": 29.915, "MAGZPT": [24.842, "zero point per sec"]}, 29.915, "MAGZERO"),
        ({"MAGZP": 26.3}, 26.3, "MAGZP"),
        ({"ZEROPT": "25.1"}, 25.1, "ZEROPT"),
        ({"MAGZERO": 0.0, "PHOTZP": 99.0, "ZP": 30.0}, 30.0, "ZP"),
        ({"MAGZERO": 0.0}, None, None),
        # What DECam's pipeline writes of an exposure of 107 s has both, and they agree.
        (
            {"MAGZPT": [24.842, "[mag] Magnitude zero point per sec"], "EXPTIME": 107.0},
            pytest.approx(29.915, abs=0.001),
            "MAGZPT + 2.5 log10(EXPTIME)",
        ),
        ({"MAGZPT": [24.842, "per sec"], "EXPTIME": 107.0, "BUNIT": "e-/s"}, 24.842, "MAGZPT"),
        ({"MAGZPT": [24.842, "per sec"]}, None, None),
        ({"BUNIT": "nJy", "MAGZERO": 27.0}, pytest.approx(31.4, abs=0.001), "BUNIT"),
        ({"BUNIT": "Jy"}, pytest.approx(8.9, abs=0.001), "BUNIT"),
        ({"BUNIT": "MJy/sr"}, None, None),
    ],
)
def test_zero_points(cards, zero_point, source):
    found = observed(cards)
    assert (found.zero_point, found.zero_point_source) == (zero_point, source)


@pytest.mark.parametrize(
    ("stated", "unit"),
    [
        (None, None),
        ("", None),
        ("ADU", "adu"),
        ("counts", "ct"),
        ("ELECTRONS/S", "electron/s"),
        ("e-", "electron"),
        ("nJy", "nJy"),
        ("MJy/sr", "MJy/sr"),
        ("DN / sec", "DN/s"),
        ("intensity", "intensity"),
    ],
)
def test_units(stated, unit):
    assert spelled(stated) == unit
    assert observed({} if stated is None else {"BUNIT": stated}).flux_unit == unit


def test_what_the_sender_says_goes_first():
    cards = {
        "MJD-OBS": MJD,
        "EXPTIME": 30.0,
        "FILTER": "g",
        "BUNIT": "adu",
        "MAGZERO": 27.0,
    }
    found = observed(cards, exposure_time=172.8, filter="r", zero_point=25.0)
    assert found.mjd_mid == pytest.approx(MJD + 0.001, abs=1e-9)
    assert found.time_source == "MJD-OBS + exposure_time/2"
    assert (found.filter, found.flux_unit) == ("r", "adu")
    assert (found.zero_point, found.zero_point_source) == (25.0, "request")
    found = observed(cards, mjd_mid=60000.0, time_scale="TAI", flux_unit="uJy")
    assert (found.mjd_mid, found.time_scale, found.time_source) == (60000.0, "TAI", "request")
    assert found.zero_point == pytest.approx(23.9, abs=0.001)
    assert found.zero_point_source == "flux_unit"
    assert observation_of([], Observation(mjd_mid=60000.0)).time_scale == "UTC"


def test_the_first_header_of_the_file_speaks_for_all():
    image = fits.ImageHDU(np.zeros((9, 9), np.float32), header({"FILTER": "r"}))
    first = fits.PrimaryHDU(header=header({"FILTER": "g", "MJD-AVG": MJD, "MAGZERO": 27.0}))
    for hdu in (image, fits.CompImageHDU(image.data, image.header)):
        file = io.BytesIO()
        fits.HDUList([first, hdu]).writeto(file)
        found = read_exposure(file.getvalue()).observation
        assert (found.filter, found.mjd_mid, found.zero_point) == ("r", MJD, 27.0)


def test_a_broken_card_is_passed_over():
    text = b"".join(
        card.ljust(80)
        for card in (
            b"SIMPLE  =                    T",
            b"BITPIX  =                  -32",
            b"NAXIS   =                    2",
            b"NAXIS1  =                    9",
            b"NAXIS2  =                    9",
            b"EXPTIME = 1.2.3 seconds",
            b"FILTER  = 'r",
            b"MAGZERO = 27 * 10",
            b"EXPOSURE=                 30.0",
            b"END",
        )
    )
    found = read_exposure(text.ljust(2880) + bytes(2880)).observation
    assert (found.exposure_time, found.zero_point) == (30.0, None)


@pytest.mark.parametrize("text", ["10**999999999 Jy", "10+999999999999 Jy", "((10**99)**99)**99 m"])
def test_a_unit_cannot_keep_the_reader_busy(text):
    assert parsed(text).to_string() == text
    assert observed({"BUNIT": text}).flux_unit == text
