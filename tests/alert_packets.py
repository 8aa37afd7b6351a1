"""Alert packets of the tests' own, with those fields of ZTF's and Rubin's schemas that are read."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits

SIDE = 63

_CUTOUT = {
    "type": "record",
    "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
ZTF: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "candidate",
                "fields": [
                    {"name": "jd", "type": "double"},
                    {"name": "fid", "type": "int"},
                    {"name": "ra", "type": "double"},
                    {"name": "dec", "type": "double"},
                    {"name": "magzpsci", "type": ["float", "null"]},
                    {"name": "rb", "type": ["float", "null"]},
                ],
            },
        },
        {"name": "cutoutDifference", "type": ["null", _CUTOUT]},
    ],
}
RUBIN: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "lsst.v7_4",
    "fields": [
        {"name": "alertId", "type": "long"},
        {
            "name": "diaSource",
            "type": {
                "type": "record",
                "name": "diaSource",
                "fields": [
                    {"name": "diaSourceId", "type": "long"},
                    {"name": "midpointMjdTai", "type": "double"},
                    {"name": "ra", "type": "double"},
                    {"name": "dec", "type": "double"},
                    {"name": "band", "type": ["null", "string"]},
                    {"name": "reliability", "type": ["null", "float"]},
                ],
            },
        },
        {"name": "cutoutDifference", "type": ["null", "bytes"]},
    ],
}


def stamp(number: int, side: int = SIDE) -> np.ndarray:
    """Noise, with a source in the middle where the number is odd."""
    rng = np.random.default_rng(number)
    rows, columns = np.indices((side, side)) - side // 2
    source = 60.0 * np.exp(-(rows**2 + columns**2) / 5.0)
    return (rng.normal(0.0, 1.0, (side, side)) + source * (number % 2)).astype(np.float32)


def fits_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(stream)
    return stream.getvalue()


def ztf(number: int, side: int = SIDE) -> dict[str, Any]:
    """A packet as ZTF's; every tenth one has no stamp."""
    return {
        "schemavsn": "4.02",
        "objectId": f"ZTF26aa{number:05}",
        "candid": 2_000_000_000 + number,
        "candidate": {
            "jd": 2461000.5 + number / 1e4,
            "fid": 1 + number % 3,
            "ra": 10.0 + number / 100.0,
            "dec": -20.0,
            "magzpsci": 26.25,
            "rb": 0.5,
        },
        "cutoutDifference": None
        if number % 10 == 9
        else {
            "fileName": "d.fits.gz",
            "stampData": gzip.compress(fits_of(stamp(number, side)), mtime=0),
        },
    }


def rubin(number: int) -> dict[str, Any]:
    """A packet as Rubin's, whose stamps have no compression."""
    return {
        "alertId": 500 + number,
        "diaSource": {
            "diaSourceId": 170_000_000_000 + number,
            "midpointMjdTai": 61000.25,
            "ra": 40.0 + number / 100.0,
            "dec": 3.0,
            "band": "r",
            "reliability": 0.5,
        },
        "cutoutDifference": fits_of(stamp(number, 71)),
    }


def write(path: Path, schema: dict[str, Any], packets: list[dict[str, Any]]) -> Path:
    with path.open("wb") as stream:
        fastavro.writer(stream, schema, packets, codec="deflate")
    return path


def read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        yield from fastavro.reader(stream)
