"""What speaks against a challenger, on streams of exposures whose truth is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from astrotriton.detection.quality.canary import (
    TESTS,
    Compared,
    Evidence,
    Plan,
    Tolerances,
    compare,
    decide,
)

TRIALS = 20
TOLERANCES = Tolerances()
PLAN = Plan(
    fractions=(0.01, 0.05, 0.25, 0.5, 1.0),
    exposures=200,
    runs=20,
    least_seconds=0.0,
    most_seconds=1e9,
)
# Of an exposure: candidates, and the share of them that is real.
SOURCES, REAL = 40, 0.4
# Of people: the share of the sources that get a label.
LABELLED = 0.02

Rng = np.random.Generator


@dataclass
class Sky:
    """Sources: whether they are real, what both versions see of them, and the champion's logit.

    The signal grows with the SNR (lognormal about 10); half a unit of noise is the network's own.
    """

    real: np.ndarray
    seen: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, rng: Rng, count: int) -> "Sky":
        real = rng.random(count) < REAL
        snr = np.exp(rng.normal(2.3, 0.6, count))
        signal = np.where(real, np.clip(snr / 10.0, 0.2, 2.0) * 2.0, -2.0)
        return cls(real, signal + rng.normal(size=count), 0.5 * rng.normal(size=count))

    @property
    def champion(self) -> np.ndarray:
        return self.seen + self.own


def retrained(rng: Rng, sky: Sky) -> np.ndarray:
    """As good, and with noise of its own: it decides 5 % of the sources otherwise."""
    return sky.seen + 0.5 * rng.normal(size=len(sky.seen))


def copied(rng: Rng, sky: Sky) -> np.ndarray:
    return sky.champion


def noisier(rng: Rng, sky: Sky) -> np.ndarray:
    """It sees less everywhere."""
    return sky.champion + 1.23 * rng.normal(size=len(sky.seen))


def blinder(rng: Rng, sky: Sky) -> np.ndarray:
    """It misses one real source in twelve, whatever its SNR."""
    missed = sky.real & (rng.random(len(sky.real)) < 0.0845)
    return np.where(missed, -4.0, sky.champion)


def fooled(rng: Rng, sky: Sky) -> np.ndarray:
    """It is sure of one artefact in thirty."""
    taken = ~sky.real & (rng.random(len(sky.real)) < 0.0318)
    return np.where(taken, 3.0, sky.champion)


def calibrated(logits: np.ndarray, real: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    fit = LogisticRegression(C=1e6).fit(logits[:, None], real)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return lambda z: expit(slope * z + offset)


def trials(
    version, recalibrated: bool, labelled: float, count: int = TRIALS
) -> tuple[float, list[int | None]]:
    """The loss in average precision, and the step (from 1) at which each trial is sent back."""
    rng = np.random.default_rng(5)
    many = Sky.of(rng, 200_000)
    theirs = version(rng, many)
    of_champion = calibrated(many.champion, many.real)
    of_challenger = calibrated(theirs, many.real) if recalibrated else of_champion
    loss = average_precision_score(many.real, many.champion) - average_precision_score(
        many.real, theirs
    )
    return loss, [_step(rng, version, of_champion, of_challenger, labelled) for _ in range(count)]


def _step(rng, version, of_champion, of_challenger, labelled) -> int | None:
    before = evidence = Evidence.none(TOLERANCES)
    for step in range(1, len(PLAN.fractions) + 1):
        for _ in range(PLAN.runs):
            evidence = evidence.with_run(failed=False, slower=bool(rng.random() < 0.2))
        while True:
            sky = Sky.of(rng, rng.poisson(SOURCES))
            p, q = of_champion(sky.champion), of_challenger(version(rng, sky))
            pair = compare(p, q, p >= 0.5, q >= 0.5)
            evidence = evidence if pair is None else evidence.with_pair(pair)
            for i in np.flatnonzero(rng.random(len(p)) < labelled):
                evidence = evidence.with_label(p[i], q[i], real=bool(sky.real[i]))
            what, _ = decide(evidence, before, 1.0, PLAN, TOLERANCES)
            if what == "send-back":
                return step
            if what == "go-on":
                before = evidence
                break
    return None


@pytest.mark.parametrize("labelled", [0.0, LABELLED], ids=["without labels", "with labels"])
@pytest.mark.parametrize(
    ("version", "recalibrated"),
    [(noisier, True), (noisier, False), (blinder, False), (fooled, False)],
    ids=["noisier", "noisier, and as sure", "blinder", "fooled"],
)
def test_one_that_is_worse_by_a_twentieth_is_sent_back_at_the_first_or_second_step(
    version, recalibrated, labelled
):
    loss, steps = trials(version, recalibrated, labelled)
    assert loss == pytest.approx(0.05, abs=0.005)
    assert sum(step in (1, 2) for step in steps) >= 19, steps


@pytest.mark.parametrize(("version", "count"), [(retrained, TRIALS), (copied, 1)])
def test_one_that_is_equal_goes_through(version, count):
    loss, steps = trials(version, True, LABELLED, count)
    assert loss == pytest.approx(0.0, abs=0.002)
    assert steps.count(None) >= 0.95 * count, steps


def test_what_an_exposure_says():
    p, q = np.array([0.9, 0.8, 0.1, 0.0]), np.array([0.9, 0.2, 0.1, 0.7])
    found = compare(p, q, p >= 0.5, q >= 0.5)
    assert found.lost == pytest.approx(0.8 / 1.7)
    assert found.gained == pytest.approx(1.0 / 2)
    assert found.shift == pytest.approx(0.1 / 1.9)
    assert found.vagueness == pytest.approx((0.7 * 0.3) / 1.9)


def test_an_exposure_without_sources_says_nothing():
    none = np.empty(0)
    assert compare(none, none, none.astype(bool), none.astype(bool)) is None
    found = compare(np.array([0.1]), np.array([0.2]), np.array([False]), np.array([False]))
    assert (found.lost, found.gained) == (None, None)
    assert found.shift == pytest.approx(0.1)  # of one source, as fewer are no measure


def test_runs_that_fail_or_are_slow_send_it_back():
    none = Evidence.none(TOLERANCES)
    failing = slow = none
    for _ in range(4):
        failing = failing.with_run(failed=True, slower=None)
    for _ in range(40):
        slow = slow.with_run(failed=False, slower=True)
    for evidence, name in ((failing, "errors"), (slow, "latency")):
        what, reason = decide(evidence, none, 0.0, PLAN, TOLERANCES)
        assert what == "send-back"
        assert reason.startswith(f"{name}: {TESTS[name]}")


def test_labels_that_it_contradicts_send_it_back():
    evidence = Evidence.none(TOLERANCES)
    for _ in range(40):
        evidence = evidence.with_label(0.9, 0.3, real=True)
    assert evidence.alarms(0.05) == ["labels"]


def test_it_goes_on_once_enough_was_seen_for_long_enough():
    alike = Compared(lost=0.0, gained=0.0, shift=0.0, vagueness=0.0)
    plan = Plan(fractions=(1.0,), exposures=2, runs=1, least_seconds=5.0, most_seconds=9.0)
    none = evidence = Evidence.none(TOLERANCES)
    evidence = evidence.with_pair(alike).with_pair(alike)
    assert decide(evidence, none, 6.0, plan, TOLERANCES).what == "wait"
    evidence = evidence.with_run(failed=False, slower=None)
    assert decide(evidence, none, 4.0, plan, TOLERANCES).what == "wait"
    assert decide(evidence, none, 5.0, plan, TOLERANCES).what == "go-on"
    # What an earlier step has seen does not count for this one.
    what, reason = decide(evidence, evidence, 9.0, plan, TOLERANCES)
    assert what == "send-back"
    assert "too little was seen in 9 s: 0 of 2 exposures" in reason
