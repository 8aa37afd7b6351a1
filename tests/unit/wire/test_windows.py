"""One grammar of windows: what the pattern says is what the parser takes."""

import re
from datetime import timedelta

import pytest
from pydantic import ValidationError

from astrotriton.detection.errors import InputError
from astrotriton.gateway.services import recorder
from astrotriton.gateway.services.performance import read_window
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.windows import LONGEST, WINDOWS, length_of

GOOD = {
    "1m": timedelta(minutes=1),
    "9999m": timedelta(minutes=9999),
    "24h": timedelta(hours=24),
    "720h": timedelta(days=30),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
BAD = ["", "0m", "10000m", "721h", "31d", "99999d", "7w", "7", "d", "-1d", "1.5h", "24h\n", " 24h"]


def settings(window: str) -> GatewaySettings:
    return GatewaySettings(database_url="postgresql://nobody@127.0.0.1/none", drift_window=window)


@pytest.mark.parametrize("text", GOOD)
def test_a_window_is_taken_everywhere(text):
    assert length_of(text) == GOOD[text]
    assert re.search(WINDOWS, text)
    assert read_window(text).seconds == GOOD[text].total_seconds()
    assert settings(text).drift_window == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_window_is_refused_everywhere(text):
    with pytest.raises(ValueError, match="give minutes"):
        length_of(text)
    with pytest.raises(InputError, match="30d at most") as refused:
        read_window(text)
    assert (refused.value.code, refused.value.field) == ("bad-window", "window")
    with pytest.raises(ValidationError, match="30d at most") as wrong:
        settings(text)
    assert wrong.value.errors()[0]["loc"] == ("drift_window",)


def test_no_window_is_longer_than_what_is_kept():
    longest = max(
        length_of(f"{number}{unit}")
        for number in (30, 720, 9999)
        for unit in "mhd"
        if re.search(WINDOWS, f"{number}{unit}")
    )
    assert longest == LONGEST == recorder.KEPT
    assert GatewaySettings.model_json_schema()["properties"]["drift_window"]["pattern"] == WINDOWS
