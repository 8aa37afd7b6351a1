import numpy as np
import pytest
from scipy.special import expit, logit

from astrotriton.detection.confidence.guarantee import Discoveries, shifted_guarantee
from astrotriton.detection.confidence.prevalence import (
    LOG_RATIO_EDGES,
    StatedPrevalence,
    counted,
    estimate,
    shift,
)
from astrotriton.detection.errors import InputError

EXPOSURES, EACH = 200, 250


def log_ratios(
    share: float, seed: int, effect: float = 0.0, exposures: int = EXPOSURES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log likelihood ratios of two normal classes, 4 sigma apart; which are real; the exposures.

    The share of an exposure scatters around the one that is asked for, by ``effect`` in log odds.
    """
    rng = np.random.default_rng(seed)
    exposure = np.repeat(np.arange(exposures), EACH)
    chance = expit(logit(share) + rng.normal(0.0, effect, exposures) if effect else logit(share))
    real = rng.random(len(exposure)) < np.broadcast_to(chance, exposures)[exposure]
    seen = rng.normal(np.where(real, 2.0, -2.0))
    return 4.0 * seen, real, exposure


def table(share: float, seed: int, effect: float = 0.0, exposures: int = EXPOSURES) -> np.ndarray:
    ratios, _, exposure = log_ratios(share, seed, effect, exposures)
    return counted(ratios, exposure, exposures)


def test_the_odds_change_as_bayes_says() -> None:
    ratios = np.array([-3.0, 0.0, 5.0])
    before, after = (expit(ratios + logit(share)) for share in (0.09, 0.0009))
    np.testing.assert_allclose(expit(logit(before) + shift(0.09, 0.0009)), after)
    assert shift(0.2, 0.2) == 0.0


def test_shifted_confidences_mean_what_they_say() -> None:
    ratios, real, _ = log_ratios(0.001, 1, exposures=2000)
    as_calibrated = expit(ratios + logit(0.1))
    shifted = expit(logit(as_calibrated) + shift(0.1, 0.001))
    assert shifted.sum() == pytest.approx(real.sum(), rel=0.1)
    assert as_calibrated.sum() > 3.0 * real.sum()
    sure = shifted > 0.5
    assert real[sure].mean() == pytest.approx(shifted[sure].mean(), abs=0.05)


@pytest.mark.parametrize("share", [0.3, 0.1, 0.01, 0.001])
def test_a_share_is_found_again(share: float) -> None:
    found = estimate(table(share, seed=3))
    assert abs(logit(found.share) - logit(share)) < 3.0 * found.error
    assert found.low < found.share < found.high
    assert found.error < 0.3


def test_the_estimate_is_what_expectation_maximisation_ends_at() -> None:
    counts = table(0.02, seed=4)
    found = estimate(counts)
    middles = (LOG_RATIO_EDGES[:-1] + LOG_RATIO_EDGES[1:]) / 2.0
    total, share = counts.sum(axis=0), 0.5
    for _ in range(200):
        # Half a source of either kind more, so that a share is never 0.
        share = (total @ expit(middles + logit(share)) + 0.5) / (total.sum() + 1.0)
    assert found.share == pytest.approx(share, rel=1e-5)


def test_intervals_of_exposures_that_differ_hold_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        found = estimate(table(0.01, seed, effect=1.0, exposures=60))
        truth = np.mean(expit(logit(0.01) + np.random.default_rng(0).normal(0.0, 1.0, 100_000)))
        held += found.low <= truth <= found.high
    assert held / 200 == pytest.approx(0.9, abs=0.07)


def test_where_nothing_looks_real_a_share_is_small_and_unsure() -> None:
    counts = counted(np.full(1000, -6.0), np.arange(1000) % 20, 20)
    found = estimate(counts)
    assert 1e-6 < found.share < 0.002
    assert found.high > 0.001
    assert 0.0 < found.error <= 5.0


def test_where_all_looks_real_a_share_is_large() -> None:
    found = estimate(counted(np.full(1000, 9.0), np.arange(1000) % 20, 20))
    assert found.share > 0.99
    assert found.high < 1.0


def discoveries(reals: int = 20_000) -> Discoveries:
    """Of two normal classes as above, one in ten of which is real."""
    rng = np.random.default_rng(5)
    logits = {
        kind: 4.0 * rng.normal(mean, size=count) + logit(0.1)
        for kind, mean, count in (("real", 2.0, reals), ("false", -2.0, 9 * reals))
    }
    thresholds = np.arange(12.0, -6.01, -0.25)
    called = {
        kind: tuple(float(np.count_nonzero(values >= at)) for at in thresholds)
        for kind, values in logits.items()
    }
    return Discoveries(
        logits=tuple(thresholds), **called, real_sources=reals, false_sources=9 * reals
    )


@pytest.mark.parametrize("share", [0.3, 0.1, 0.01])
def test_a_guarantee_follows_the_share(share: float) -> None:
    stated = StatedPrevalence(share=share, source="request").beside(0.1)
    promise = shifted_guarantee(discoveries(), 240, 0.05, share, stated.shift)
    ratios, real, _ = log_ratios(share, 6, exposures=2000)
    called = expit(ratios + logit(share)) >= promise.threshold
    assert np.mean(~real[called]) <= 0.05
    assert np.mean(~real[called]) > 0.01
    assert f"{share:.2g}" in promise.assumption


def test_what_calibration_cannot_vouch_for_is_refused() -> None:
    stated = StatedPrevalence(share=1e-4, source="route").beside(0.1)
    with pytest.raises(InputError) as caught:
        shifted_guarantee(discoveries(reals=1000), 240, 0.05, 1e-4, stated.shift)
    assert caught.value.code == "guarantee-impossible"
    assert "1000 real and 9000 false" in caught.value.detail
