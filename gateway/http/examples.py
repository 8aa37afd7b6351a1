"""A request and its answer, as the OpenAPI document shows them."""

from typing import Any

REQUEST: dict[str, Any] = {
    "candidates": [
        {"id": "sn-17", "x": 128.9, "y": 127.7},
        {"id": "dipole", "x": 60.0, "y": 181.0},
    ],
    "confidence_threshold": 0.5,
    "exposure_id": "decam_difference",
}

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
    },
    "image": {
        "background": 0.02,
        "background_gradient": 0.4,
        "noise": 11.3,
        "seeing_fwhm": 4.1,
        "depth": 190.0,
        "masked_fraction": 0.0,
        "saturated_fraction": None,
    },
    "tiles": 1,
    "threshold": 0.5,
    "tta": False,
    "guarantee": None,
    "extracted": False,
    "flags": [],
    "detections": [
        {
            "id": "019ac5b0-6f0e-7c11-9d0a-2f4f1d9e7b52",
            "rank": 1,
            "candidate_id": "sn-17",
            "x": 128.91,
            "y": 127.68,
            "ra": 318.10823,
            "dec": -66.01572,
            "probability": 0.997,
            "probability_mean": 0.91,
            "confidence": 0.98,
            "confidence_low": 0.93,
            "confidence_high": 0.99,
            "entropy": 0.14,
            "tta_std": None,
            "ensemble_std": None,
            "is_real": True,
            "snr": 21.4,
            "snr_err": 1.15,
            "flux": 5210.0,
            "flux_err": 243.0,
            "fwhm": 4.2,
            "elongation": 1.08,
            "negative_ratio": 0.03,
            "psf_match": 0.97,
            "sharpness": 1.1,
            "trail": 0.2,
            "edge_distance": 126.8,
            "sep_flags": 0,
            "polarity": 1,
            "outcome": "kept",
            "merged_into": None,
            "flags": [],
        }
    ],
}
