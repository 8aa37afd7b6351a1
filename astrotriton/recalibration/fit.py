"""A confidence fitted anew to labels: by as little as they speak for."""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from astrotriton.detection.arrays import Flags, Values
from astrotriton.detection.confidence.calibration import apply_calibration
from astrotriton.detection.confidence.guarantee import (
    DISCOVERY_LOGITS,
    Discoveries,
    RiskCurve,
)
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.recalibration.sources import LabelledSources, Weights, weigh
from astrotriton.wire.confidence import CalibrationMap

#: What may change, from nothing to most.
Method = Literal["none", "shift", "line", "features"]
METHODS: tuple[Method, ...] = ("none", "shift", "line", "features")

LEAST_LABELS, LEAST_OF_A_KIND, LEAST_EXPOSURES = 50, 10, 5
_FOLDS = 5
# How far weights of features are held to what they were: a label in 10 or so of one of them.
_RIDGE = 10.0
_FAR = 40.0  # logits that no score reaches


class UnfitLabelsError(ValueError):
    """The labels are too few, or of one kind, to fit a confidence to."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well a confidence holds on the labels, each weighted for what it stands for.

    Attributes
    ----------
    log_loss, brier, ece
        Mean logarithmic loss, Brier score and expected calibration error.
    expected
        The mean confidence; the share of real ones is `Recalibrated.prevalence`.
    """

    log_loss: float
    brier: float
    ece: float
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibrated:
    """What labels make of a confidence.

    Attributes
    ----------
    model
        The confidence as it is after that; the one before where ``method`` is ``none``.
    method
        What was changed.
    before, after
        Figures on the labels; ``after`` on exposures that each fit has not seen.
    gain, gain_error
        By how much the logarithmic loss falls, and its standard error over exposures.
    prevalence
        Weighted share of real ones.
    labels, real, exposures, sources
        How many labels, how many of them real, of how many exposures, and of how many sources.
    weights
        How the labels were weighted.
    """

    model: ConfidenceModel
    method: Method
    before: Figures
    after: Figures
    gain: float
    gain_error: float
    prevalence: float
    labels: int
    real: int
    exposures: int
    sources: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class _Change:
    """A map of calibrated logits, ``slope * logit + offset``, after other weights of features."""

    slope: float
    offset: float
    weights: Values
    intercept: float

    def logits(self, model: ConfidenceModel, table: Values) -> Values:
        weights = np.asarray(model.weights) + self.weights
        score = table @ weights + model.intercept + self.intercept
        return self.slope * apply_calibration(score, model.calibration) + self.offset

    def of(self, model: ConfidenceModel) -> ConfidenceModel:
        """The model with the change in it."""
        old = model.calibration
        score = (old.score[0] - _FAR, *old.score, old.score[-1] + _FAR)
        known = apply_calibration(np.array(score), old)
        method = old.method if self.slope == 1.0 or old.method != "none" else "temperature"
        mapped = CalibrationMap(
            method=method,
            score=score,
            calibrated=tuple((self.slope * known + self.offset).tolist()),
        )
        return msgspec.structs.replace(
            model,
            weights=tuple((np.asarray(model.weights) + self.weights).tolist()),
            intercept=model.intercept + self.intercept,
            calibration=mapped,
        )


def recalibrate(model: ConfidenceModel, sources: LabelledSources) -> Recalibrated:
    """Fit a confidence anew to labels, and say what that changes.

    Of no change, a shift of all logits, a straight line of them (Platt 1999), and other weights of
    the features, the least is taken whose logarithmic loss on exposures left out is within one
    standard error of the best.

    Raises
    ------
    UnfitLabelsError
        If the labels are too few, or of too few exposures, or hardly any is of one of both kinds.
    """
    _check(sources)
    weights = weigh(sources)
    table = (sources.table - np.asarray(model.mean)) / np.asarray(model.scale)
    table = np.where(np.isfinite(table), table, 0.0)
    numbers = np.unique(sources.exposure, return_inverse=True)[1].astype(np.intp)
    fold = numbers % _FOLDS
    held_out = {}
    for method in METHODS:
        logits = np.empty(len(table))
        for left_out in range(_FOLDS):
            rest, this = fold != left_out, fold == left_out
            change = _fit(model, method, table[rest], sources.real[rest], weights.values[rest])
            logits[this] = change.logits(model, table[this])
        held_out[method] = logits
    losses = {
        method: weights.values * _losses(logits, sources.real)
        for method, logits in held_out.items()
    }
    best = min(METHODS, key=lambda method: losses[method].mean())
    method = next(
        one
        for one in METHODS
        if one == best or (gap := _gap(losses[one], losses[best], numbers))[0] <= gap[1]
    )
    gain, error = _gap(losses["none"], losses[method], numbers)
    prevalence = float(np.average(sources.real, weights=weights.values))
    made = model
    if method != "none":
        change = _fit(model, method, table, sources.real, weights.values)
        made = _complete(change.of(model), model, sources, weights, held_out[method], prevalence)
    return Recalibrated(
        model=made,
        method=method,
        before=_figures(held_out["none"], sources.real, weights.values),
        after=_figures(held_out[method], sources.real, weights.values),
        gain=gain,
        gain_error=error,
        prevalence=prevalence,
        labels=len(sources.real),
        real=int(np.count_nonzero(sources.real)),
        exposures=sources.exposures,
        sources=len(sources.population),
        weights=weights,
    )


def _check(sources: LabelledSources) -> None:
    labels, real = len(sources.real), int(np.count_nonzero(sources.real))
    if labels < LEAST_LABELS:
        raise UnfitLabelsError(
            f"{labels} labels: {LEAST_LABELS} at least are needed; label more detections"
        )
    for kind, count in (("real", real), ("artefact", labels - real)):
        if count < LEAST_OF_A_KIND:
            raise UnfitLabelsError(
                f"{count} of {labels} labels say {kind}: {LEAST_OF_A_KIND} of each kind at least"
                " are needed; label detections whatever they look like, and not of one kind"
            )
    if sources.exposures < LEAST_EXPOSURES:
        raise UnfitLabelsError(
            f"the labels are of {sources.exposures} exposures: {LEAST_EXPOSURES} at least are"
            " needed, since what differs between exposures is left out in turn"
        )


def _fit(
    model: ConfidenceModel, method: Method, table: Values, real: Flags, weight: Values
) -> _Change:
    """Fit what a method may change, by penalised maximum likelihood."""
    features = table.shape[1]
    # As many labels as they are worth.
    weight = weight * (weight.sum() / np.sum(weight**2))

    def change_of(values: Values) -> _Change:
        nothing = np.zeros(features)
        if method == "line":
            return _Change(float(np.exp(values[0])), float(values[1]), nothing, 0.0)
        if method == "features":
            return _Change(1.0, 0.0, values[1:], float(values[0]))
        return _Change(1.0, float(values[0]) if method == "shift" else 0.0, nothing, 0.0)

    start = np.zeros({"none": 0, "shift": 1, "line": 2, "features": 1 + features}[method])
    if method == "none":
        return change_of(start)

    def loss(values: Values) -> float:
        change = change_of(values)
        penalty = 0.5 * _RIDGE * float(np.sum(change.weights**2)) + 0.05 * float(np.sum(values**2))
        return float(weight @ _losses(change.logits(model, table), real)) + penalty

    return change_of(np.asarray(minimize(loss, start, method="L-BFGS-B").x))


def _complete(
    made: ConfidenceModel,
    before: ConfidenceModel,
    sources: LabelledSources,
    weights: Weights,
    logits: Values,
    prevalence: float,
) -> ConfidenceModel:
    """The model with what else it says of its population; ``logits`` are of exposures left out."""
    worth = weights.values * weights.effective / len(sources.real)

    def count(which: Flags) -> tuple[float, ...]:
        return tuple(
            round(float(worth[which & (logits >= at)].sum()), 2) for at in DISCOVERY_LOGITS
        )

    return msgspec.structs.replace(
        made,
        # What is vouched for rests on what the labels say of the sources that are called.
        risk=RiskCurve(thresholds=(), risk=(), exposures=sources.exposures),
        discoveries=Discoveries(
            logits=DISCOVERY_LOGITS,
            real=count(sources.real),
            false=count(~sources.real),
            real_sources=max(round(float(worth[sources.real].sum())), 1),
            false_sources=max(round(float(worth[~sources.real].sum())), 1),
        ),
        prevalence=round(prevalence, 6),
        fitted_on=(
            f"{len(sources.real)} labels of {sources.exposures} exposures, weighted to stand for"
            f" their {len(sources.population)} sources; {prevalence:.2%} of the sources are real;"
            f" before that: {before.fitted_on}"
        ),
        sources=len(sources.real),
    )


def _losses(logits: Values, real: Flags) -> Values:
    return np.asarray(-np.where(real, log_expit(logits), log_expit(-logits)))


def _gap(one: Values, other: Values, exposure: NDArray[np.intp]) -> tuple[float, float]:
    """By how much a mean loss is larger than another, and the standard error over exposures."""
    count = int(exposure.max()) + 1
    each = np.bincount(exposure, one - other, minlength=count) / len(one)
    mean = float(each.sum())
    return mean, float(np.sqrt(np.sum((each - each.mean()) ** 2) * count / max(count - 1, 1)))


def _figures(logits: Values, real: Flags, weight: Values) -> Figures:
    confidence = expit(logits)
    place = np.minimum((confidence * 10.0).astype(np.intp), 9)
    gaps = np.abs(np.bincount(place, weight * (confidence - real), minlength=10))
    return Figures(
        log_loss=float(np.average(_losses(logits, real), weights=weight)),
        brier=float(np.average((confidence - real) ** 2, weights=weight)),
        ece=float(gaps.sum() / weight.sum()),
        expected=float(np.average(confidence, weights=weight)),
    )
