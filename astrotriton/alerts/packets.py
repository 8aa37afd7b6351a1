"""What an alert packet says of its candidate, and the packet with a score added.

ZTF's packets are those of schema 3 and 4 (Masci et al. 2019, PASP 131, 018003; `ztf-avro-alert`),
Rubin's those of schema 7 and later (`alert_packet`, DMTN-093). Only the fields that are named here
are read; whatever else a packet has is passed on as it is.
"""

import io
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from astrotriton.wire.stamps import ScoredStamp, StampIn

#: The field that is added to a packet.
FIELD = "astrotriton"

_ZTF_FILTERS = {1: "g", 2: "r", 3: "i"}
_ZTF_EXPOSURE = 30.0  # seconds, of which `jd` is the start
_MJD = 2_400_000.5
_NANOJANSKY = 31.4  # AB magnitude of 1 nJy
_LARGEST_STAMP = 8 * 1024 * 1024  # bytes, once decompressed

_SCORE = {
    "type": "record",
    "name": "Score",
    "namespace": "astrotriton",
    "doc": "What astrotriton says of the candidate of an alert.",
    "fields": [
        {"name": "confidence", "type": ["null", "double"], "default": None},
        {"name": "confidence_low", "type": ["null", "double"], "default": None},
        {"name": "confidence_high", "type": ["null", "double"], "default": None},
        {"name": "probability", "type": ["null", "double"], "default": None},
        {"name": "snr", "type": ["null", "double"], "default": None},
        {"name": "is_real", "type": "boolean", "default": False},
        {"name": "flags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "model", "type": ["null", "string"], "default": None},
        {"name": "model_version", "type": ["null", "int"], "default": None},
        {"name": "run_id", "type": ["null", "string"], "default": None},
        {"name": "detection_id", "type": ["null", "string"], "default": None},
        {"name": "problem", "type": ["null", "string"], "default": None},
    ],
}


class PacketError(ValueError):
    """A packet that no score can be made for; the message says what it lacks."""


class Stamp(NamedTuple):
    """The difference stamp of an alert, float32 (H, W), and what its packet says of it."""

    pixels: NDArray[np.float32]
    described: StampIn


def stamp_of(packet: Mapping[str, Any]) -> Stamp:
    """The difference stamp of a packet of ZTF or Rubin.

    Raises
    ------
    PacketError
        If it is neither, or has no stamp that can be read.
    """
    if "candid" in packet and "candidate" in packet:
        described = _ztf(packet)
    elif "diaSource" in packet:
        described = _rubin(packet)
    else:
        raise PacketError("neither a ZTF packet (candid, candidate) nor one of Rubin (diaSource)")
    cutout = packet.get("cutoutDifference")
    content = cutout.get("stampData") if isinstance(cutout, Mapping) else cutout
    if not content:
        raise PacketError("has no cutoutDifference")
    return Stamp(_pixels(bytes(content)), described)


def _ztf(packet: Mapping[str, Any]) -> StampIn:
    candidate = packet["candidate"]
    middle = _number(candidate.get("jd"))
    return StampIn(
        id=str(packet["candid"]),
        **_place(candidate),
        mjd_mid=None if middle is None else middle - _MJD + _ZTF_EXPOSURE / 2.0 / 86400.0,
        filter=_ZTF_FILTERS.get(candidate.get("fid")),
        zero_point=_within(_number(candidate.get("magzpsci")), -20.0, 60.0),
    )


def _rubin(packet: Mapping[str, Any]) -> StampIn:
    source = packet["diaSource"]
    name = source.get("diaSourceId") or packet.get("diaSourceId") or packet.get("alertId")
    return StampIn(
        id=str(name),
        **_place(source),
        mjd_mid=_utc(_number(source.get("midpointMjdTai"))),
        filter=source.get("band") or None,
        zero_point=_NANOJANSKY,
    )


def _utc(tai: float | None) -> float | None:
    """A time in the scale of a stamp's."""
    return None if tai is None else float(Time(tai, format="mjd", scale="tai").utc.mjd)


def _place(source: Mapping[str, Any]) -> dict[str, float]:
    ra, dec = _number(source.get("ra")), _number(source.get("dec"))
    if ra is None or dec is None or abs(dec) > 90.0:
        return {}
    return {"ra": ra % 360.0, "dec": dec}


def _number(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float) else math.nan
    return number if math.isfinite(number) else None


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


def _pixels(content: bytes) -> NDArray[np.float32]:
    """The first image of a FITS file, gzipped or not; a CCDData is one too."""
    try:
        if content[:2] == b"\x1f\x8b":
            decoder = zlib.decompressobj(wbits=31)
            content = decoder.decompress(content, _LARGEST_STAMP)
        with fits.open(io.BytesIO(content)) as hdus:
            for hdu in hdus:
                if hdu.data is not None and getattr(hdu.data, "ndim", 0) == 2:
                    return np.asarray(hdu.data, np.float32)
    except Exception as error:  # astropy raises almost anything on a broken file
        raise PacketError(f"its cutoutDifference is no FITS image: {error}") from error
    raise PacketError("its cutoutDifference has no image of two axes")


def extended(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a packet with the field `FIELD`; its other fields are as they were.

    Raises
    ------
    PacketError
        If it is no record, or has such a field.
    """
    fields = schema.get("fields")
    if schema.get("type") != "record" or fields is None:
        raise PacketError("the schema of the packets is no record")
    if any(field["name"] == FIELD for field in fields):
        raise PacketError(f"the packets have a field {FIELD!r} already")
    added = {"name": FIELD, "type": ["null", _SCORE], "default": None}
    plain = {name: value for name, value in schema.items() if not name.startswith("__")}
    return plain | {"fields": [*fields, added]}


def score_of(stamp: ScoredStamp) -> dict[str, Any]:
    """What is added to the packet of a stamp."""
    if stamp.run is None or (found := stamp.candidate) is None:
        return refusal("it was not scored" if stamp.problem is None else stamp.problem.detail)
    return {
        "confidence": found.confidence,
        "confidence_low": found.confidence_low,
        "confidence_high": found.confidence_high,
        "probability": found.probability,
        "snr": found.snr,
        "is_real": found.is_real,
        "flags": list(found.flags),
        "model": stamp.run.model.name,
        "model_version": stamp.run.model.version,
        "run_id": str(stamp.run.run_id),
        "detection_id": str(found.id),
        "problem": None,
    }


def refusal(problem: str) -> dict[str, Any]:
    """What is added to a packet that could not be scored."""
    return {"is_real": False, "flags": [], "problem": problem}
