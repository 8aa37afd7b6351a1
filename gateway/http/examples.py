"""A request and its answer, as the OpenAPI document shows them."""

from enum import Enum
from typing import Any

from astrotriton.wire.columns import columns_of
from astrotriton.wire.detections import ScoredDetection


class _Null(Enum):
    """Null, which Litestar would leave out of an example, together with its name."""

    NULL = None


def written_out(example: Any) -> Any:
    """An example whose nulls are kept."""
    if isinstance(example, dict):
        return {name: written_out(value) for name, value in example.items()}
    if isinstance(example, list):
        return [written_out(value) for value in example]
    return _Null.NULL if example is None else example


REQUEST: dict[str, Any] = {
    "candidates": [
        {"id": "sn-17", "x": 128.9, "y": 127.7},
        {"id": "dipole", "x": 60.0, "y": 181.0},
    ],
    "confidence_threshold": 0.5,
    "exposure_id": "decam_difference",
}

BY_REFERENCE: dict[str, Any] = {"exposure": "s3://nights/2026/difference.fits"}

RESPONSE: dict[str, Any] = {
    "run_id": "019ac5b0-6f0e-7c11-9d0a-2f4e8a6b1c3d",
    "created_at": "2026-11-24T06:00:00Z",
    "model": {
        "name": "unet_astronomical",
        "version": 7,
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
    "exposure": {
        "name": "decam_difference",
        "hdu": "PRIMARY",
        "height": 256,
        "width": 256,
        "digest": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
        "mjd_mid": 58334.39324766,
        "time_scale": "UTC",
        "observed_at": "2018-08-04T09:26:16.598000Z",
        "time_source": "MJD-OBS + EXPTIME/2",
        "exposure_time": 330.0,
        "filter": "i DECam SDSS c0003 7835.0 1470.0",
        "flux_unit": "adu",
        "zero_point": 30.2,
        "zero_point_source": "MAGZERO",
    },
    "image": {
        "background": 0.02,
        "background_gradient": 0.4,
        "noise": 11.3,
        "seeing_fwhm": 4.1,
        "seeing_source": "measured",
        "depth": 190.0,
        "masked_fraction": 0.0,
        "planes": ["difference"],
        "saturated_fraction": None,
        "limiting_magnitude": 24.503,
    },
    "tiles": 1,
    "threshold": 0.5,
    "tta": False,
    "guarantee": None,
    "prevalence": None,
    "extracted": False,
    "flags": [],
    "detections": [{column.name: column.example for column in columns_of(ScoredDetection)}],
}
