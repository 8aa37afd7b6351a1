"""Fitting of the confidence on simulated fields that training never saw.

Three sets of fields that share none: the regression is fitted on the first, its calibration on the
second, and what differs between exposures, and what can be vouched for, is learned from the third,
half of which is seen through PSFs that are not training's.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, logsumexp

from astrotriton.detection.arrays import Values
from astrotriton.detection.card import ModelCard
from astrotriton.detection.confidence.calibration import apply_calibration
from astrotriton.detection.confidence.guarantee import (
    DISCOVERY_LOGITS,
    Discoveries,
    RiskCurve,
)
from astrotriton.detection.confidence.model import (
    ConfidenceModel,
    Outliers,
    squared_distance,
    standardised,
)
from astrotriton.detection.quality.evaluation import false_discovery_proportions, match_transients
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.measured_sources import MeasuredSources, measure_sources
from astrotriton.detection.scoring.score import prepare_exposure
from astrotriton.simulation.fields import Field, simulate
from astrotriton.simulation.psf import random_double_gaussian, random_moffat
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.wire.confidence import CalibrationMap
from astrotriton.wire.exposures import COMPANIONS, Companion

# Training uses the seeds from its own on, validation a million further.
CALIBRATION_SEEDS = 2_000_000
_KNOTS = 200
_OUTLIERS = 0.999
_THRESHOLDS = np.round(
    np.concatenate([np.arange(0.999, 0.98, -0.001), np.arange(0.98, 0.0, -0.01)]), 3
)

Progress = Callable[[str], None]
_Card = TypeVar("_Card", bound=ModelCard)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many fields the regression, its calibration, and the rest are fitted on."""

    regression: int = 140
    calibration: int = 100
    exposures: int = 240


@dataclass(frozen=True, slots=True)
class Labelled:
    """The sources that scoring finds in some fields, and which are real.

    Attributes
    ----------
    names
        Of the features.
    table
        float64 (N, features); NaN where unknown.
    real
        bool (N,): matched to a simulated transient, each transient once at most.
    field
        intp (N,), index of the field.
    fields
        Number of fields.
    """

    names: tuple[str, ...]
    table: Values
    real: NDArray[np.bool_]
    field: NDArray[np.intp]
    fields: int


def calibration_fields(
    seed: int, start: int, stop: int, *, other_cameras: bool = False
) -> Iterator[Field]:
    """Fields of the calibration set; some hold noise and transients only.

    Parameters
    ----------
    seed
        Of training.
    start, stop
        Numbers of the fields.
    other_cameras
        See half of them through PSFs of a family that training has none of.
    """
    for i in range(start, stop):
        psf = random_double_gaussian if other_cameras and i % 8 >= 4 else random_moffat
        yield simulate(seed + CALIBRATION_SEEDS + i, mixed_recipe(i), psf)


def score_field(
    field: LabelledField,
    card: ModelCard,
    predict: Predict,
    *,
    tta: bool,
    sent: Collection[Companion] = COMPANIONS,
) -> MeasuredSources:
    """Let the network answer a field; its sources, or `judged_candidates`, measured.

    Parameters
    ----------
    sent
        The images that come with the difference; the network looks at those that its card names.
    """
    exposure = field.showing(sent).exposure()
    candidates = judged_candidates(exposure, card, field.transients)
    tiled = prepare_exposure(exposure, card, candidates, tta=tta)
    return measure_sources(tiled.answer(predict, tiled.views))


def labelled(field: Field) -> LabelledField:
    """A field with its truth, and with the images that its difference was made of."""
    return LabelledField(
        field.difference,
        transients_of(field),
        {"science": field.science, "template": field.template},
    )


def transients_of(field: Field) -> Transients:
    """A field's true transients."""
    sources = field.of_kind("transient")
    return Transients(
        positions=np.array([(one.x, one.y) for one in sources], np.float64).reshape(-1, 2),
        snr=np.array([one.snr for one in sources], np.float64),
        polarity=np.array([one.polarity for one in sources], np.int8),
        fwhm=np.full(len(sources), field.fwhm),
        hosted=np.array([one.host != "" for one in sources], bool),
        saturated=np.array([one.saturated for one in sources], bool),
    )


def label(
    fields: Iterable[LabelledField], card: ModelCard, predict: Predict, *, tta: bool
) -> Labelled:
    """Score fields up to, but not including, the confidence, and label the sources.

    What may be left out comes with every other field: one confidence serves both kinds of callers.

    Parameters
    ----------
    fields
        With truth.
    card
        Of the model that ``predict`` runs.
    predict
        The network.
    tta
        Whether to show it every tile in eight orientations.
    """
    tables, real, index = [], [], []
    names: tuple[str, ...] = ()
    count = 0
    for field in fields:
        sent = card.required_planes if count % 2 else COMPANIONS
        measured = score_field(field, card, predict, tta=tta, sent=sent)
        spots = measured.sources.spots
        scored = np.isfinite(spots.probability)
        matched = match_transients(
            spots.positions[scored],
            spots.probability[scored],
            field.transients.looked_for(card.polarities),
            spots.polarity[scored],
        )
        names = tuple(measured.features)
        tables.append(np.stack([measured.features[name] for name in names], axis=1)[scored])
        real.append(matched >= 0)
        index.append(np.full(len(matched), count, np.intp))
        count += 1
    return Labelled(
        names, np.concatenate(tables), np.concatenate(real), np.concatenate(index), count
    )


def calibrated(
    card: _Card,
    predict: Predict,
    *,
    seed: int,
    sizes: Sizes | None = None,
    on_progress: Progress = print,
) -> _Card:
    """The card with both confidences of the model that ``predict`` runs."""
    plain, tta = (
        calibrate(card, predict, seed=seed, tta=tta, sizes=sizes, on_progress=on_progress)
        for tta in (False, True)
    )
    return msgspec.structs.replace(card, confidence=plain, confidence_tta=tta)


def calibrate(
    card: ModelCard,
    predict: Predict,
    *,
    seed: int,
    tta: bool,
    sizes: Sizes | None = None,
    on_progress: Progress = print,
) -> ConfidenceModel:
    """Fit the confidence of the model that ``predict`` runs, for one view of each tile or all."""
    sizes = sizes or Sizes()
    borders = np.cumsum([0, sizes.regression, sizes.calibration, sizes.exposures])
    sets = []
    for name, start, stop in zip(
        ("regression", "calibration", "exposures"), borders, borders[1:], strict=False
    ):
        on_progress(
            f"{'tta' if tta else 'plain'} confidence: scoring {stop - start} fields ({name})"
        )
        # How much exposures differ, other cameras' included, is learned from the last set alone.
        fields = calibration_fields(seed, int(start), int(stop), other_cameras=name == "exposures")
        sets.append(label(map(labelled, fields), card, predict, tta=tta))
    return fit_confidence(
        *sets,
        fitted_on=(
            f"{borders[-1]} simulated difference fields of 512x512 px, seed"
            f" {seed + CALIBRATION_SEEDS}; {np.mean(sets[2].real):.1%} of the sources are real"
        ),
    )


def fit_confidence(
    regression: Labelled, calibration: Labelled, exposures: Labelled, *, fitted_on: str
) -> ConfidenceModel:
    """Fit all of a confidence model on three sets of fields that share none."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    finite = np.where(np.isfinite(regression.table), regression.table, np.nan)
    mean = np.nan_to_num(np.nanmean(finite, axis=0))
    scale = np.maximum(np.nan_to_num(np.nanstd(finite, axis=0)), 1e-6)
    prepare = partial(standardised, mean=mean, scale=scale)
    table = prepare(regression.table)
    fitted = LogisticRegression(max_iter=2000).fit(table, regression.real)
    weights, intercept = fitted.coef_[0], float(fitted.intercept_[0])

    def score(sources: Labelled) -> Values:
        return np.asarray(prepare(sources.table) @ weights + intercept)

    mapped = fit_calibration(score(calibration), calibration.real, calibration.field)
    logits = apply_calibration(score(exposures), mapped)
    return ConfidenceModel(
        names=regression.names,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(weights.tolist()),
        intercept=intercept,
        calibration=mapped,
        scatter=fit_scatter(logits, exposures),
        outliers=_outliers(np.concatenate([table, prepare(calibration.table)])),
        risk=_risk_curve(expit(logits), exposures),
        fitted_on=fitted_on,
        sources=sum(len(part.real) for part in (regression, calibration, exposures)),
        prevalence=float(np.mean(calibration.real)),
        discoveries=discoveries_of(logits, exposures),
    )


def fit_calibration(
    score: Values, real: NDArray[np.bool_], field: NDArray[np.intp]
) -> CalibrationMap:
    """The calibration of the best log loss on fields left out, fitted on all.

    Parameters
    ----------
    score
        The regression's logits, float64 (N,).
    real, field
        bool (N,) and intp (N,): fields are left out whole.
    """
    fold = field % 4
    losses = {}
    for method, fit in _METHODS.items():
        held_out = np.empty_like(score)
        for left_out in range(4):
            rest = fold != left_out
            held_out[~rest] = apply_calibration(score[~rest], fit(score[rest], real[rest]))
        losses[method] = float(-np.mean(np.where(real, log_expit(held_out), log_expit(-held_out))))
    best = min(losses, key=lambda method: losses[method])
    return _METHODS[best](score, real)


def _unchanged(score: Values, real: NDArray[np.bool_]) -> CalibrationMap:
    ends = (float(score.min()), float(score.max()))
    return CalibrationMap(method="none", score=ends, calibrated=ends)


def _temperature(score: Values, real: NDArray[np.bool_]) -> CalibrationMap:
    """Platt's: a straight line in the logit."""
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=1e6).fit(score[:, None], real)
    return _knots("temperature", score, lambda x: line.decision_function(x[:, None]))


def _beta(score: Values, real: NDArray[np.bool_]) -> CalibrationMap:
    """Beta calibration (Kull et al. 2017): the two tails have slopes of their own."""
    from sklearn.linear_model import LogisticRegression

    def tails(x: Values) -> Values:
        return np.stack([log_expit(x), -log_expit(-x)], axis=1)

    bent = LogisticRegression(C=1e6).fit(tails(score), real)
    if (bent.coef_ < 0).any():
        return _temperature(score, real)  # not monotone
    return _knots("beta", score, lambda x: bent.decision_function(tails(x)))


def _isotonic(score: Values, real: NDArray[np.bool_]) -> CalibrationMap:
    from sklearn.isotonic import IsotonicRegression

    # Never quite 0 or 1: as sure as one more source of the other kind would allow.
    least = 1.0 / (len(score) + 2)
    steps = IsotonicRegression(y_min=least, y_max=1.0 - least, out_of_bounds="clip")
    steps.fit(score, real)

    def calibrated(x: Values) -> Values:
        share = steps.predict(x)
        return np.asarray(np.log(share / (1.0 - share)))

    return _knots("isotonic", score, calibrated)


_METHODS: dict[str, Callable[[Values, NDArray[np.bool_]], CalibrationMap]] = {
    "none": _unchanged,
    "temperature": _temperature,
    "beta": _beta,
    "isotonic": _isotonic,
}


def _knots(method: str, score: Values, calibrated: Callable[[Values], Values]) -> CalibrationMap:
    knots = np.linspace(score.min(), score.max(), _KNOTS)
    return CalibrationMap(
        method=method,  # type: ignore[arg-type]
        score=tuple(knots.tolist()),
        calibrated=tuple(np.maximum.accumulate(calibrated(knots)).tolist()),
    )


def fit_scatter(logits: Values, sources: Labelled) -> float:
    """Standard deviation of the logit between exposures, by maximum likelihood.

    The model is logistic with a normal effect that all sources of an exposure share; the integral
    over it is done by Gauss-Hermite quadrature.
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(21)
    log_weights = np.log(node_weights / node_weights.sum())
    sign = np.where(sources.real, 1.0, -1.0)

    def loss(scatter: float) -> float:
        shifted = sign[:, None] * (logits[:, None] + scatter * nodes)
        each = np.zeros((sources.fields, len(nodes)))
        np.add.at(each, sources.field, log_expit(shifted))
        return -float(logsumexp(each + log_weights, axis=1).sum())

    return float(minimize_scalar(loss, bounds=(0.0, 3.0), method="bounded").x)


def _outliers(table: Values) -> Outliers:
    covariance = np.cov(table, rowvar=False) + 1e-3 * np.eye(table.shape[1])
    precision = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    return Outliers(
        precision=tuple(tuple(row) for row in precision.tolist()),
        limit=float(np.quantile(squared_distance(table, precision), _OUTLIERS)),
    )


def _risk_curve(confidence: Values, sources: Labelled) -> RiskCurve:
    risk = [
        float(
            np.mean(
                false_discovery_proportions(
                    confidence, sources.real, sources.field, sources.fields, threshold
                )
            )
        )
        for threshold in _THRESHOLDS
    ]
    return RiskCurve(
        thresholds=tuple(_THRESHOLDS.tolist()), risk=tuple(risk), exposures=sources.fields
    )


def discoveries_of(logits: Values, sources: Labelled) -> Discoveries:
    """What is called at each threshold of the calibrated logits, float64 (N,), of some sources."""
    real, false = [], []
    for threshold in DISCOVERY_LOGITS:
        called = logits >= threshold
        wrong = np.bincount(sources.field[called & ~sources.real], minlength=sources.fields)
        # False ones that come together say less than as many that come alone.
        effect = max(1.0, float(np.var(wrong, ddof=1)) / max(float(np.mean(wrong)), 1e-9))
        real.append(float(np.count_nonzero(called & sources.real)) / effect)
        false.append(float(wrong.sum()) / effect)
    return Discoveries(
        logits=DISCOVERY_LOGITS,
        real=tuple(round(one, 2) for one in real),
        false=tuple(round(one, 2) for one in false),
        real_sources=int(np.count_nonzero(sources.real)),
        false_sources=int(np.count_nonzero(~sources.real)),
    )
