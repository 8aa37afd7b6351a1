"""What a confidence is a function of."""

import numpy as np

from astrotriton.detection.arrays import Values
from astrotriton.detection.logits import logit
from astrotriton.detection.sources.measurements import Measurements
from astrotriton.detection.sources.spots import Spots


def features(
    spots: Spots,
    measured: Measurements,
    seeing: float | None,
    edge_distance: Values,
    *,
    one_number: bool = False,
) -> dict[str, Values]:
    """What the confidence is a function of, by name, each float64 (N,), NaN where unknown.

    Parameters
    ----------
    spots, measured
        The sources.
    seeing
        Full width at half maximum of point sources, pixels, if known.
    edge_distance
        float64 (N,), distance to the nearest edge of the exposure, pixels.
    one_number
        Whether the network answers a source with one number: then there is no ``logit_mean``.
    """
    snr = np.maximum(measured.snr, 0.0)
    found = {
        "logit_peak": logit(spots.probability),
        "logit_mean": logit(spots.probability_mean),
        "spread": spots.spread,
        "log_snr": np.log1p(snr),
        "log_snr_squared": np.log1p(snr) ** 2,
        "psf_match": measured.psf_match,
        "log_sharpness": np.log(np.clip(measured.sharpness, 0.1, 100.0)),
        "negative_ratio": measured.negative_ratio,
        "log_elongation": np.log(np.clip(measured.elongation, 1.0, 10.0)),
        "log_trail": np.log1p(np.maximum(measured.trail, 0.0)),
        "width": np.log(np.clip(measured.fwhm / (seeing or np.nan), 0.1, 10.0)),
        "masked_fraction": measured.masked_fraction,
        "near_edge": np.exp(-edge_distance / 5.0),
    }
    if one_number:
        del found["logit_mean"]
    return found
