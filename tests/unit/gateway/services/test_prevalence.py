"""What share of real sources a run is scored for, and what it rests on."""

import msgspec
import pytest
from scipy.special import expit, logit

from astrotriton.detection.confidence.guarantee import Discoveries, RiskCurve
from astrotriton.detection.confidence.model import ConfidenceModel, Outliers
from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.wire.confidence import CalibrationMap
from astrotriton.wire.models import PrevalenceIn, RouteIn
from tests.unit.gateway.services.stand_ins import NAME, exposure, network, publish, submission

CALIBRATED = 0.1


def confidence(prevalence: float | None = CALIBRATED) -> ConfidenceModel:
    """The network's own logit of the peak, as it is."""
    grid = tuple(float(at) for at in range(12, -7, -1))
    return ConfidenceModel(
        names=("logit_peak",),
        mean=(0.0,),
        scale=(1.0,),
        weights=(1.0,),
        intercept=0.0,
        calibration=CalibrationMap(method="none", score=(-9.0, 9.0), calibrated=(-9.0, 9.0)),
        scatter=0.3,
        outliers=Outliers(precision=((1e-6,),), limit=1e9),
        risk=RiskCurve(thresholds=(0.9, 0.5), risk=(0.0, 0.0), exposures=400),
        fitted_on="a test",
        sources=10,
        prevalence=prevalence,
        discoveries=None
        if prevalence is None
        else Discoveries(
            logits=grid,
            real=tuple(900.0 for _ in grid),
            false=tuple(max(0.0, 2.0 - at) for at in grid),
            real_sources=1000,
            false_sources=9000,
        ),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Version 3 knows the share that it was calibrated on, version 4 does not."""
    folder = tmp_path_factory.mktemp("published")
    publish(folder, 3, network(6.0), confidence=confidence())
    publish(folder, 4, network(5.0), confidence=confidence(None))
    return folder


async def score(scoring, seed=7, **asked):
    what = submission(exposure((60.0, 50.0), seed=seed), **asked)
    pending = await scoring.pending(what, "somebody", None)
    run = await scoring.score_and_store(what, pending)
    assert run is not None
    return run


def sure(run):
    [found] = [one for one in run.detections if abs((one.x or 0.0) - 60.0) < 2.0]
    return found


async def test_nothing_changes_where_nobody_says_a_share(scoring):
    run = await score(scoring, model_version=3)
    assert run.prevalence is None
    assert run == msgspec.structs.replace(run, prevalence=None)
    assert "prevalence_not_used" not in run.flags


async def test_a_request_states_a_share_and_all_follows(scoring, memory):
    plain = await score(scoring, model_version=3)
    run = await score(scoring, model_version=3, prevalence=0.001)
    said = run.prevalence
    assert (said.share, said.calibrated, said.source) == (0.001, CALIBRATED, "request")
    assert said.shift == pytest.approx(logit(0.001) - logit(0.1))
    for field in ("confidence", "confidence_low", "confidence_high"):
        before, after = (logit(getattr(sure(one), field)) for one in (plain, run))
        assert after == pytest.approx(before + said.shift)
    assert sure(run).entropy != sure(plain).entropy
    explained = await DetectionService(memory).explain(sure(run).id)
    assert explained.prevalence == said
    assert explained.derivation.prevalence == said
    assert explained.derivation.confidence == pytest.approx(sure(run).confidence)
    assert expit(explained.derivation.logit) == pytest.approx(sure(plain).confidence)


async def test_the_guarantee_follows(scoring):
    asked = {"model_version": 3, "max_false_discovery_rate": 0.1}
    plain = await score(scoring, **asked)
    run = await score(scoring, **asked, prevalence=0.01)
    assert run.threshold == run.guarantee.threshold != plain.threshold
    assert "0.01" in run.guarantee.assumption
    with pytest.raises(InputError) as caught:
        await score(scoring, **asked, prevalence=1e-5)
    assert caught.value.code == "guarantee-impossible"


async def test_an_older_card_cannot_follow(scoring):
    with pytest.raises(InputError) as caught:
        await score(scoring, model_version=4, prevalence=0.001)
    assert (caught.value.code, caught.value.field) == ("prevalence-unusable", "prevalence")
    assert "version 4" in caught.value.detail


async def test_too_few_exposures_say_nothing(scoring):
    await score(scoring, model_version=3)
    with pytest.raises(InputError) as caught:
        await score(scoring, model_version=3, prevalence="estimated")
    assert (caught.value.code, caught.value.field) == ("prevalence-unknown", "prevalence")
    assert caught.value.detail.startswith("1 exposures with")


@pytest.fixture
def soon(monkeypatch):
    """A few exposures are enough."""
    monkeypatch.setattr("astrotriton.gateway.services.prevalence.LEAST_EXPOSURES", 3)
    monkeypatch.setattr("astrotriton.gateway.services.prevalence.LEAST_SOURCES", 3)


async def test_a_share_is_estimated_over_what_is_stored(scoring, prevalence, soon):
    # Whatever those runs were scored for: it is taken off again.
    for seed, asked in enumerate((None, 0.001, 0.3, None)):
        await score(scoring, seed, model_version=3, prevalence=asked)
    run = await score(scoring, model_version=3, prevalence="estimated")
    rests_on = run.prevalence.estimate
    assert rests_on.exposures == 4
    assert rests_on.extracted
    assert rests_on.low < rests_on.share < rests_on.high
    assert run.prevalence.error == rests_on.error > 0.0
    # Candidates that were sent are another population.
    candidates = [{"x": 60.0, "y": 50.0}]
    with pytest.raises(InputError, match="were sent"):
        await score(scoring, model_version=3, prevalence="estimated", candidates=_sent(candidates))
    # It widens the interval.
    plain = await score(scoring, model_version=3)
    width, wider = (
        logit(sure(one).confidence_high) - logit(sure(one).confidence_low) for one in (plain, run)
    )
    assert wider > width


def _sent(candidates):
    from astrotriton.wire.detections import CandidateIn

    return [CandidateIn(**one) for one in candidates]


async def test_a_route_states_a_share(scoring, prevalence, memory):
    with pytest.raises(NotFoundError):
        await prevalence.set(NAME, PrevalenceIn(prevalence=0.01))
    await prevalence._routing.change(NAME, RouteIn(champion=3))
    said = await prevalence.set(NAME, PrevalenceIn(prevalence=0.01))
    assert (said.prevalence, said.estimates) == (0.01, [])
    run = await score(scoring)
    assert (run.prevalence.share, run.prevalence.source) == (0.01, "route")
    assert (await score(scoring, prevalence="calibrated")).prevalence is None
    assert (await score(scoring, prevalence=0.2)).prevalence.share == 0.2
    # Another champion changes nothing about the survey; one that cannot follow says so.
    await prevalence._routing.change(NAME, RouteIn(champion=4))
    assert memory.routes[NAME].prevalence == 0.01
    scoring._prevalence._routing.forget()
    scoring._routing.forget()
    run = await score(scoring)
    assert run.model.version == 4
    assert run.prevalence is None
    assert "prevalence_not_used" in run.flags
    with pytest.raises(InputError, match="version 4"):
        await prevalence.set(NAME, PrevalenceIn(prevalence=0.02))
    assert (await prevalence.set(NAME, PrevalenceIn(prevalence=None))).prevalence is None


async def test_a_route_has_it_estimated_once_there_is_enough(
    scoring, prevalence, soon, monkeypatch
):
    monkeypatch.setattr("astrotriton.gateway.services.prevalence._MISSING", 0.0)
    await prevalence._routing.change(NAME, RouteIn(champion=3))
    await prevalence.set(NAME, PrevalenceIn(prevalence="estimated"))
    runs = [await score(scoring, seed) for seed in range(5)]
    used = [run.prevalence is not None for run in runs]
    assert used[0] is False
    assert used[-1] is True
    assert ["prevalence_not_used" in run.flags for run in runs] == [not one for one in used]
    [estimated] = (await prevalence.get(NAME)).estimates
    assert estimated.exposures >= 3
