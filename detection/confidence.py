"""From the network's probability and the source's measurements to a confidence."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection.quality import Measurements

Values = NDArray[np.float64]

# A float32 sigmoid saturates: beyond this the logit says nothing more.
_LEAST = 1e-6


def logit(probability: Values) -> Values:
    """log(p / (1 - p)), with p kept from 0 and 1 by 1e-6."""
    p = np.clip(probability, _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(p / (1.0 - p)))


def features(
    probability: Values, probability_mean: Values, measured: Measurements, seeing: float | None
) -> dict[str, Values]:
    """What the confidence is a function of, by name, each float64 (N,), NaN where unknown."""
    snr = np.maximum(measured.snr, 0.0)
    return {
        "logit_peak": logit(probability),
        "logit_mean": logit(probability_mean),
        "log_snr": np.log1p(snr),
        "log_snr_squared": np.log1p(snr) ** 2,
        "psf_match": measured.psf_match,
        "log_sharpness": np.log(np.clip(measured.sharpness, 0.1, 100.0)),
        "negative_ratio": measured.negative_ratio,
        "log_elongation": np.log(np.clip(measured.elongation, 1.0, 10.0)),
        "width": np.log(np.clip(measured.fwhm / (seeing or np.nan), 0.1, 10.0)),
        "masked_fraction": measured.masked_fraction,
        "near_edge": np.exp(-measured.edge_distance / 5.0),
    }


class ConfidenceModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logistic regression on standardised `features`.

    Attributes
    ----------
    names
        The features, in the order of the other fields.
    mean, scale
        A feature enters as (value - mean) / scale; an unknown one as 0, which is the average.
    weights, intercept
        Of the standardised features.
    fitted_on
        What the model was fitted on, in words, with the share of real sources in it: a confidence
        holds for a population like that.
    sources
        How many sources that was.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    fitted_on: str
    sources: int

    def standardise(self, values: dict[str, Values]) -> Values:
        """float64 (N, features), as the regression takes them.

        Raises
        ------
        KeyError
            If a feature of the model is not among ``values``.
        """
        table = np.stack([values[name] for name in self.names], axis=1)
        table = (table - np.asarray(self.mean)) / np.asarray(self.scale)
        return np.where(np.isfinite(table), table, 0.0)

    def __call__(self, values: dict[str, Values]) -> Values:
        """Confidence, float64 (N,), 0 to 1."""
        score = self.standardise(values) @ np.asarray(self.weights) + self.intercept
        return np.asarray(1.0 / (1.0 + np.exp(-score)))
