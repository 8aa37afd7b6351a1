"""Places in the sky as people write them."""

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.dashboard.places import read_place
from astrotriton.gateway.dashboard.written import sexagesimal


@pytest.mark.parametrize(
    "text",
    [
        "318.10823 -66.01572",
        " 318.10823,-66.01572 ",
        "318.10823d, -66.01572d",
        "21:12:25.9752 -66:00:56.592",
        "21h12m25.9752s -66d00m56.592s",
        "21 12 25.9752 -66 00 56.592",
    ],
)
def test_a_place_is_in_degrees_or_sexagesimal(text):
    assert read_place(text) == pytest.approx((318.10823, -66.01572), abs=1e-9)


def test_what_the_pages_write_can_be_sought():
    assert read_place(sexagesimal(0.0, -0.25)) == pytest.approx((0.0, -0.25), abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "12", "a b", "nan 0", "360 0", "-1 0", "0 91", "25:00:00 1", "1 2 3", "1 2 3 4"]
)
def test_what_is_no_place_says_how_to_write_one(text):
    with pytest.raises(InputError, match="write RA and Dec in degrees") as refused:
        read_place(text)
    assert refused.value.field == "place"
