"""Fitting of the confidence on simulated fields that training never saw."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from detection.confidence import ConfidenceModel, features
from detection.exposure import Exposure
from detection.model import UNetModel
from detection.preprocess import Image
from detection.scoring import find_sources, measure_sources, prepare_exposure
from reference.simulate import ARTEFACTS, NOISE_ONLY, Field, simulate

# Training uses the seeds from its own on, validation a million further.
CALIBRATION_SEEDS = 2_000_000
MATCH_RADIUS = 3.0

Predict = Callable[[Image], Image]
"""What answers tiles: float32 (N, 1, H, W) normalised pixels to probabilities of the same shape."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The sources that scoring finds in some fields, and which are real.

    Attributes
    ----------
    values
        float64 (N, features), in the order of ``names``; NaN where unknown.
    names
        Of the features.
    real
        bool (N,): a simulated transient lies within 3 px, and no closer source claims it.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    real: NDArray[np.bool_]


def calibration_fields(seed: int, count: int) -> Iterable[Field]:
    """Fields of the calibration set; one in four holds noise and transients only."""
    for i in range(count):
        yield simulate(seed + CALIBRATION_SEEDS + i, NOISE_ONLY if i % 4 == 3 else ARTEFACTS)


def label(positions: NDArray[np.float64], field: Field) -> NDArray[np.bool_]:
    """Which positions (N, 2) are transients, each transient once at most; bool (N,)."""
    real = np.zeros(len(positions), bool)
    truth = np.array([(s.x, s.y) for s in field.of_kind("transient")]).reshape(-1, 2)
    if len(truth) and len(positions):
        distance, nearest = map(np.asarray, KDTree(positions).query(truth))
        real[nearest[distance <= MATCH_RADIUS]] = True
    return real


def labelled_sources(fields: Iterable[Field], card: UNetModel, predict: Predict) -> Labelled:
    """Score fields up to, but not including, the confidence.

    Parameters
    ----------
    fields
        With truth.
    card
        Of the model that ``predict`` runs.
    predict
        The network.
    """
    tables, real = [], []
    names: tuple[str, ...] = ()
    for field in fields:
        work = prepare_exposure(Exposure.from_array(field.difference), card)
        work.accept(0, predict(work.batch(0, len(work))))
        sources = find_sources(work)
        measured, seeing = measure_sources(work, sources)
        values = features(sources.probability, sources.probability_mean, measured, seeing)
        names = tuple(values)
        scored = np.isfinite(sources.probability)
        tables.append(np.stack(list(values.values()), axis=1)[scored])
        real.append(label(sources.positions, field)[scored])
    return Labelled(np.concatenate(tables), names, np.concatenate(real))


def fit_confidence(sources: Labelled, fitted_on: str) -> ConfidenceModel:
    """Fit the logistic regression that turns features into a confidence."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    finite = np.where(np.isfinite(sources.values), sources.values, np.nan)
    mean, scale = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
    model = ConfidenceModel(
        names=sources.names,
        mean=tuple(mean.tolist()),
        scale=tuple(np.maximum(scale, 1e-6).tolist()),
        weights=(),
        intercept=0.0,
        fitted_on=fitted_on,
        sources=len(sources.real),
    )
    table = model.standardise(dict(zip(sources.names, sources.values.T, strict=True)))
    regression = LogisticRegression(max_iter=1000).fit(table, sources.real)
    return msgspec.structs.replace(
        model,
        weights=tuple(regression.coef_[0].tolist()),
        intercept=float(regression.intercept_[0]),
    )


def calibrate(
    card: UNetModel, predict: Predict, *, seed: int, fields: int = 120
) -> tuple[UNetModel, Labelled]:
    """Give a card the confidence of the model that ``predict`` runs; and what it was fitted on."""
    sources = labelled_sources(calibration_fields(seed, fields), card, predict)
    share = float(np.mean(sources.real))
    fitted_on = (
        f"{fields} simulated difference fields of 512x512 px, seed {seed + CALIBRATION_SEEDS};"
        f" {share:.1%} of the sources are real"
    )
    fitted = fit_confidence(sources, fitted_on)
    return msgspec.structs.replace(card, confidence=fitted), sources
