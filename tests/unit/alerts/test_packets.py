"""What is read of a packet, and what is added to it."""

import pytest

from astrotriton.alerts.packets import PacketError, extended, refusal, stamp_of
from tests.alert_packets import RUBIN, ZTF, rubin, stamp, ztf


def test_a_ztf_packet_says_what_its_stamp_is_of() -> None:
    pixels, described = stamp_of(ztf(1))
    assert (pixels == stamp(1)).all()
    assert (described.id, described.filter, described.zero_point) == ("2000000001", "r", 26.25)
    assert (described.ra, described.dec) == (10.01, -20.0)
    assert described.mjd_mid == pytest.approx(61000.0001 + 15.0 / 86400.0, abs=1e-7)


def test_a_rubin_packet_is_in_nanojansky_and_its_time_in_tai() -> None:
    pixels, described = stamp_of(rubin(3))
    assert pixels.shape == (71, 71)
    assert (described.id, described.filter, described.zero_point) == ("170000000003", "r", 31.4)
    assert described.mjd_mid == pytest.approx(61000.25 - 37.0 / 86400.0, abs=1e-9)


@pytest.mark.parametrize(
    ("packet", "problem"),
    [
        ({"id": 1}, "neither a ZTF packet"),
        (ztf(9), "has no cutoutDifference"),
        ({**ztf(1), "cutoutDifference": {"stampData": b"no file"}}, "is no FITS image"),
    ],
)
def test_what_cannot_be_scored_says_why(packet: dict[str, object], problem: str) -> None:
    with pytest.raises(PacketError, match=problem):
        stamp_of(packet)


@pytest.mark.parametrize("schema", [ZTF, RUBIN])
def test_a_schema_is_extended_by_one_field(schema: dict[str, object]) -> None:
    longer = extended(schema)
    assert longer["fields"][:-1] == schema["fields"]
    assert longer["fields"][-1]["name"] == "astrotriton"
    with pytest.raises(PacketError, match="already"):
        extended(longer)
    assert refusal("why")["is_real"] is False
