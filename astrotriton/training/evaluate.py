"""How good the reference network is, on fields of another PSF family and renderer than training's.

`make evaluate` prints the table and writes the figures. Fields are split from those of training and
calibration by their seeds; ``SEED=`` chooses others that nobody has tuned anything to.
"""

import multiprocessing
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from astrotriton.detection.arrays import Image, Positions, Values
from astrotriton.detection.card import ModelCard
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.detection.image.preprocess import normalise
from astrotriton.detection.quality.coverage import interval_coverage
from astrotriton.detection.quality.evaluation import (
    Sample,
    aurc,
    brier,
    expected_calibration_error,
    false_discovery_proportions,
)
from astrotriton.detection.quality.figures import FDR_ASKED, SNR_EDGES, completeness_by_bin
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.measured_sources import MeasuredSources
from astrotriton.simulation.fields import Field, simulate
from astrotriton.simulation.galsim_psf import random_kolmogorov, use_one_thread
from astrotriton.simulation.recipe import ARTEFACTS, NOISE_ONLY, Recipe, mixed_recipe
from astrotriton.training.calibrate import labelled, score_field
from astrotriton.training.classical import (
    SEP_THRESHOLDS,
    best_threshold,
    matched_filter_peaks,
    sep_sources,
)
from astrotriton.wire.exposures import COMPANIONS, Companion

DEFAULT_SEED = 7_000_000
FALSE_POSITIVES = 0.25  # a tile: where completeness on noise is read

# One kind of artefact at a time, with transients, in white noise.
ARTEFACT_CLASSES: dict[str, Recipe] = {
    "dipole": replace(
        ARTEFACTS, cosmic_rays=(0, 0), trails=(0, 0), bad_columns=(0, 0), gaps=(0, 0)
    ),
    "cosmic_ray": replace(NOISE_ONLY, cosmic_rays=(20, 60)),
    "trail": replace(NOISE_ONLY, trails=(1, 3)),
    "bad_column": replace(NOISE_ONLY, bad_columns=(2, 6)),
    "saturation": replace(
        ARTEFACTS,
        stars=(200, 400),
        galaxies=(0, 0),
        cosmic_rays=(0, 0),
        trails=(0, 0),
        bad_columns=(0, 0),
        gaps=(0, 0),
        saturation=(200.0, 800.0),
    ),
}
# Lone sources around the limit, as the matched filter's own limit is defined: one that lies on
# another or on the edge cannot be told apart by anything.
LIMIT = replace(
    NOISE_ONLY,
    fwhm=(4.3, 4.3),
    transients=(25, 25),
    snr=(3.0, 13.0),
    bright=0.0,
    fading=0.0,
    separation=30.0,
)
# Lone sources of every brightness, in noise as it is in a difference, from undersampled to broad.
ISOLATED = replace(
    NOISE_ONLY,
    fwhm=(1.5, 8.0),
    transients=(12, 12),
    bright=1.0,
    bright_snr=(5.0, 2e4),
    separation=50.0,
    resampled=0.5,
    uneven=0.5,
)
_CLASS_FIELDS = 32
_LEAST_FOR_ECE = 200

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scores:
    """The sources of one kind of field, scored in several ways.

    Attributes
    ----------
    plain, tta, network, matched_filter
        By the confidence from one view and from eight (None where that was not tried), by the
        network's probability alone, and by the matched filter.
    sep
        By SEP at several thresholds.
    field
        intp (N,), field of each source of ``plain``.
    measured_snr
        float64 (N,), what each of them was measured to have.
    """

    plain: Sample
    tta: Sample | None
    network: Sample
    matched_filter: Sample
    sep: dict[float, Sample]
    field: NDArray[np.intp]
    measured_snr: Values

    @property
    def best_sep(self) -> Sample:
        """SEP at its best threshold."""
        return self.sep[best_threshold(self.sep)]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` finds: the figures by name, and the scores that the plots are made of."""

    figures: dict[str, object]
    mixed: Scores
    noise: Scores
    isolated: Scores


def evaluate(
    card: ModelCard,
    predict: Predict,
    *,
    seed: int = DEFAULT_SEED,
    fields: int = 240,
    sent: Collection[Companion] = COMPANIONS,
    on_progress: Progress = print,
) -> Evaluation:
    """Evaluate a calibrated model.

    Parameters
    ----------
    card
        With both confidences.
    predict
        The network.
    seed
        Of the first validation field.
    fields
        Number of mixed fields, of which one in four holds noise and transients only; there are a
        third as many of lone transients in noise, and 32 of each class of artefacts.
    sent
        As `score_field` takes it.

    Raises
    ------
    ValueError
        If the card was never calibrated.
    """
    plain, tta = card.confidence, card.confidence_tta
    if plain is None or tta is None:
        raise ValueError(f"{card.name} was never calibrated: run `make train`")
    plan: dict[str, list[Recipe]] = {
        "mixed": [mixed_recipe(i) for i in range(fields)],
        "noise": [LIMIT] * (fields // 3),
        "isolated": [ISOLATED] * (fields // 2),
        **{name: [recipe] * _CLASS_FIELDS for name, recipe in ARTEFACT_CLASSES.items()},
    }
    scores = {}
    for name, recipes in plan.items():
        on_progress(f"scoring {len(recipes)} fields: {name.replace('_', ' ')}")
        # Eight views of a tile cost eight times as much: they are judged on the mixed fields alone.
        fields_of = _simulated(seed, recipes)
        scores[name] = _score(fields_of, card, predict, tta=name == "mixed", sent=sent)
        seed += len(recipes)
    mixed, noise, isolated = (scores.pop(name) for name in ("mixed", "noise", "isolated"))
    figures = _figures(mixed, noise, plain, seed)
    figures["isolated"] = completeness_by_bin(isolated.plain)
    figures["mixed"] = completeness_by_bin(mixed.plain)
    figures["ece_by_snr"] = _ece_by_snr(mixed)
    figures["classes"] = {name: _class_figures(one) for name, one in scores.items()}
    return Evaluation(figures, mixed, noise, isolated)


def _simulated(seed: int, recipes: list[Recipe]) -> Iterator[Field]:
    """The fields, made by other processes while this one scores."""
    context = multiprocessing.get_context("forkserver")  # TensorFlow does not survive a fork
    with ProcessPoolExecutor(mp_context=context, initializer=use_one_thread) as pool:
        seeds = range(seed, seed + len(recipes))
        yield from pool.map(_simulate, seeds, recipes, chunksize=4)


def _simulate(seed: int, recipe: Recipe) -> Field:
    return simulate(seed, recipe, random_kolmogorov)


def _score(
    fields: Iterator[Field],
    card: ModelCard,
    predict: Predict,
    *,
    tta: bool,
    sent: Collection[Companion] = COMPANIONS,
) -> Scores:
    plain: list[Sample] = []
    eightfold: list[Sample] = []
    network: list[Sample] = []
    filtered: list[Sample] = []
    sep: dict[float, list[Sample]] = {threshold: [] for threshold in SEP_THRESHOLDS}
    index, ratios = [], []
    for number, field in enumerate(fields):
        known = labelled(field)
        truth = known.transients.looked_for(card.polarities)
        measured = score_field(known, card, predict, tta=False, sent=sent)
        assert card.confidence is not None
        assert card.confidence_tta is not None
        plain.append(sample_of(measured, card.confidence, truth))
        if tta:
            turned = score_field(known, card, predict, tta=True, sent=sent)
            eightfold.append(sample_of(turned, card.confidence_tta, truth))
        spots = measured.sources.spots
        scored = np.isfinite(spots.probability)
        index.append(np.full(np.count_nonzero(scored), number, np.intp))
        ratios.append(measured.measurements.snr[scored])
        found = spots.take(scored)
        network.append(Sample.of_field(found.positions, found.probability, truth, found.polarity))
        mask = ~np.isfinite(field.difference)
        prepared = normalise(field.difference, mask, card.normalisation)
        significance, _, _ = prepared.piece(slice(0, mask.shape[0]), slice(0, mask.shape[1]))
        filtered.append(
            _both_signs(partial(matched_filter_peaks, fwhm=field.fwhm), significance, truth)
        )
        for threshold, samples in sep.items():
            extract = partial(sep_sources, mask=mask, fwhm=field.fwhm, threshold=threshold)
            samples.append(_both_signs(extract, significance, truth))
    return Scores(
        plain=Sample.join(plain),
        tta=Sample.join(eightfold) if tta else None,
        network=Sample.join(network),
        matched_filter=Sample.join(filtered),
        sep={threshold: Sample.join(samples) for threshold, samples in sep.items()},
        field=np.concatenate(index),
        measured_snr=np.concatenate(ratios),
    )


def _both_signs(
    find: Callable[[Image], tuple[Positions, Values]], significance: Image, truth: Transients
) -> Sample:
    """What a finder of bright sources finds in an image and in its negative."""
    found = [find(significance), find(-significance)]
    return Sample.of_field(
        np.concatenate([positions for positions, _ in found]),
        np.concatenate([score for _, score in found]),
        truth,
        np.repeat(np.array([1, -1], np.int8), [len(score) for _, score in found]),
    )


def sample_of(measured: MeasuredSources, model: ConfidenceModel, truth: Transients) -> Sample:
    """The scored sources of a field with their confidences, matched to its transients."""
    spots = measured.sources.spots
    known = np.isfinite(spots.probability)
    confidence = confidence_of(measured, model)[known]
    return Sample.of_field(spots.positions[known], confidence, truth, spots.polarity[known])


def confidence_of(measured: MeasuredSources, model: ConfidenceModel) -> Values:
    """Confidence of measured sources, float64 (N,)."""
    return np.asarray(expit(model.logits(model.standardise(measured.features))))


def _figures(mixed: Scores, noise: Scores, plain: ConfidenceModel, seed: int) -> dict[str, object]:
    sample, tta = mixed.plain, mixed.tta
    assert tta is not None
    at = threshold_of_false_positives(noise.plain, FALSE_POSITIVES)
    at_filter = threshold_of_false_positives(noise.matched_filter, FALSE_POSITIVES)
    guarantee = plain.guarantee(FDR_ASKED)
    proportions = false_discovery_proportions(
        sample.score, sample.real, mixed.field, sample.fields, guarantee.threshold
    )
    return {
        "completeness_snr_6_7": noise.plain.completeness(at, 6.0, 7.0),
        "false_positives_per_tile": noise.plain.false_positives_per_field(at),
        "completeness_snr_6_7_matched_filter": noise.matched_filter.completeness(
            at_filter, 6.0, 7.0
        ),
        "average_precision": sample.average_precision(),
        "average_precision_full": tta.average_precision(),
        "average_precision_sep": mixed.best_sep.average_precision(),
        "centroid_error_px": float(np.nanmedian(sample.error)),
        "ece": expected_calibration_error(sample.score, sample.real),
        "ece_full": expected_calibration_error(tta.score, tta.real),
        "brier": brier(sample.score, sample.real),
        "brier_full": brier(tta.score, tta.real),
        "brier_uncalibrated": brier(mixed.network.score, mixed.network.real),
        "interval_coverage_90": interval_coverage(sample, mixed.field, plain.scatter, seed),
        "interval_scatter": plain.scatter,
        "fdr_asked": FDR_ASKED,
        "fdr_realised": float(np.mean(proportions)),
        "fdr_standard_error": float(np.std(proportions) / np.sqrt(len(proportions))),
        "fdr_threshold": guarantee.threshold,
        "fdr_fields": sample.fields,
        "aurc_confidence": aurc(sample),
        "aurc_full": aurc(tta),
    }


def _ece_by_snr(scores: Scores) -> dict[str, float]:
    """Calibration error of sources by their measured signal-to-noise ratio, where there are 200."""
    found = {}
    for low, high in pairwise((*SNR_EDGES, np.inf)):
        inside = (scores.measured_snr >= low) & (scores.measured_snr < high)
        if np.count_nonzero(inside) >= _LEAST_FOR_ECE:
            found[f"snr_{low:g}"] = expected_calibration_error(
                scores.plain.score[inside], scores.plain.real[inside], bins=5
            )
    return found


def _class_figures(scores: Scores) -> dict[str, float]:
    """Average precision, and purity where SEP is at its best (largest F1)."""
    sep = scores.best_sep
    precision, recall = sep.precision_recall()
    best = int(np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-9)))
    completeness = float(recall[best])
    return {
        "average_precision": scores.plain.average_precision(),
        "average_precision_sep": sep.average_precision(),
        "completeness": completeness,
        "purity": scores.plain.purity(scores.plain.threshold_of_completeness(completeness)),
        "purity_sep": float(precision[best]),
        "ece": expected_calibration_error(scores.plain.score, scores.plain.real),
        "brier": brier(scores.plain.score, scores.plain.real),
        "brier_uncalibrated": brier(scores.network.score, scores.network.real),
        "false_positives_per_tile": scores.plain.false_positives_per_field(0.5),
    }


def threshold_of_false_positives(sample: Sample, per_field: float) -> float:
    """The lowest score at which there are at most so many false positives a field."""
    false = np.sort(sample.score[~sample.real])[::-1]
    allowed = int(per_field * sample.fields)
    return float(np.nextafter(false[allowed], np.inf)) if allowed < len(false) else 0.0
