"""Confidences where real sources are a hundred times rarer than the calibration had them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import logit

from astrotriton.detection.arrays import Image, Values
from astrotriton.detection.card import UNetModel
from astrotriton.detection.confidence.prevalence import StatedPrevalence, counted, estimate
from astrotriton.detection.quality.evaluation import expected_calibration_error
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.galsim_psf import random_kolmogorov
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.calibrate import Labelled, label, labelled

# It scores two hundred fields that it simulates first.
pytestmark = pytest.mark.long

SEED, FIELDS = 9_400_000, 200
# Of the 25 transients that a field of the calibration has in the mean.
RARER = 100.0


class Rare(NamedTuple):
    """Sources of the fields, and their log likelihood ratios."""

    sources: Labelled
    table: Values
    calibrated: float
    log_ratios: Values


@pytest.fixture(scope="module")
def rare(card: UNetModel, predict: Callable[[Image], Image]) -> Rare:
    counts = np.random.default_rng(SEED).poisson(25.0 / RARER, FIELDS)
    recipes = (
        replace(mixed_recipe(i), transients=(int(count), int(count)))
        for i, count in enumerate(counts)
    )
    simulated = partial(simulate, psf=random_kolmogorov)
    fields = (simulated(SEED + i, recipe) for i, recipe in enumerate(recipes))
    sources = label(map(labelled, fields), card, predict, tta=False)
    model = card.confidence
    assert model is not None
    assert model.prevalence is not None, "calibrate the reference network anew"
    table = model.standardise(dict(zip(sources.names, sources.table.T, strict=True)))
    ratios = model.logits(table) - logit(model.prevalence)
    return Rare(sources, table, model.prevalence, ratios)


def test_confidences_mean_what_they_say_where_the_share_is_stated(
    rare: Rare, card: UNetModel
) -> None:
    real = rare.sources.real
    share = rare.calibrated / RARER
    stated = StatedPrevalence(share=share, source="request").beside(rare.calibrated)
    assert card.confidence is not None
    confidence, low, high = card.confidence.judge(rare.table, stated)
    assert expected_calibration_error(confidence, real) <= 0.02
    as_calibrated, _, _ = card.confidence.judge(rare.table)
    # What is expected to be real is, within what exposures differ.
    assert real.sum() / 2.0 < confidence.sum() < 2.0 * real.sum()
    assert as_calibrated.sum() > 3.0 * real.sum()
    assert np.all((low <= confidence) & (confidence <= high))


def test_and_where_it_is_estimated_over_the_exposures(rare: Rare, card: UNetModel) -> None:
    real = rare.sources.real
    found = estimate(counted(rare.log_ratios, rare.sources.field, rare.sources.fields))
    estimated = StatedPrevalence(share=found.share, source="route").beside(rare.calibrated)
    assert card.confidence is not None
    confidence, _, _ = card.confidence.judge(rare.table, estimated)
    assert expected_calibration_error(confidence, real) <= 0.03
    assert confidence.sum() < 3.0 * max(real.sum(), 1)
    assert found.share < rare.calibrated / 10.0
