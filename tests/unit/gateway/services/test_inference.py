"""How an exposure is shown to Triton, and what comes of its faults."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from astrotriton.detection.card import StampModel, TensorSpec
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.services.inference import InferenceService
from astrotriton.settings import ModelConfig
from astrotriton.wire.detections import CandidateIn
from tests.unit.gateway.services.stand_ins import ReadHere, exposure, network, submission

LARGE = exposure((60.0, 50.0), (250.0, 200.0), shape=(300, 400))
LIMITS = Limits(max_bytes=4_000_000, max_pixels=1_000_000, max_candidates=100)


def service(triton, in_flight=2, **config) -> InferenceService:
    return InferenceService(
        config=ModelConfig(**config),
        limits=LIMITS,
        in_flight=in_flight,
        triton=triton,
        readers=ReadHere(),
    )


async def test_every_tile_is_shown_once_and_told(triton, models):
    told = []
    _, scored = await service(triton).infer(
        submission(LARGE), await models.get(3), lambda done, of: told.append((done, of))
    )
    assert scored.tiles == sum(tiles for _, tiles in triton.asked) > 4
    assert {version for version, _ in triton.asked} == {3}
    assert max(tiles for _, tiles in triton.asked) == 2
    assert told[0] == (0, scored.tiles)
    assert told[-1] == (scored.tiles, scored.tiles)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    real = sorted((d.x, d.y) for d in scored.detections if d.is_real)
    np.testing.assert_allclose(real, [(60.0, 50.0), (250.0, 200.0)], atol=0.3)


def classifier(triton, model):
    """The version as a classifier of stamps that looks at the middle; and what it is shown."""

    def answer(stamps):
        assert stamps.shape[1:] == (1, 21, 21)
        return (stamps[:, :, 10:11, 10:11] > 3.0).astype(np.float32)

    triton.networks[model.ref.version] = answer
    card = StampModel(
        name=model.card.name,
        version=model.card.version,
        trained_at=model.card.trained_at,
        input=TensorSpec(name="stamp", shape=(-1, 1, 21, 21)),
        output=TensorSpec(name="probability", shape=(-1, 1, 1, 1)),
    )
    return replace(model, card=card)


async def test_a_classifier_is_shown_many_stamps_at_once(triton, models):
    model = classifier(triton, await models.get(3))
    sent = [CandidateIn(id=str(x), x=float(x), y=50.0) for x in range(60, 300, 10)]
    told = []
    _, scored = await service(triton, in_flight=3).infer(
        submission(LARGE, candidates=sent), model, lambda done, of: told.append((done, of))
    )
    assert [stamps for _, stamps in triton.asked] == [8, 8, 8]
    assert told[-1] == (24, 24)
    said = {one.candidate_id: one.probability for one in scored.detections}
    assert (said["60"], said["200"], len(said)) == (1.0, 0.0, 24)


async def test_a_classifier_answers_no_candidates_with_no_detections(triton, models):
    model = classifier(triton, await models.get(3))
    _, scored = await service(triton).infer(submission(LARGE, candidates=[]), model)
    assert scored.detections == []
    assert triton.asked == []


async def test_a_classifier_is_judged_on_true_sources_and_on_what_else_is_found(triton, models):
    model = classifier(triton, await models.get(3))
    truth = Transients.of(np.array([(60.0, 50.0), (150.0, 60.0)]), np.array([30.0, 3.0]))
    _, scored = await service(triton).infer(submission(LARGE), model, truth=truth)
    places = {(round(one.x, -1), round(one.y, -1)) for one in scored.detections}
    assert places >= {(60.0, 50.0), (150.0, 60.0), (250.0, 200.0)}
    with pytest.raises(InputError, match="classifies stamps"):
        await service(triton).infer(submission(LARGE), model)


@pytest.mark.parametrize(("in_flight", "most"), [(1, 1), (2, 2), (3, 3)])
async def test_no_more_requests_are_under_way_than_allowed(triton, models, in_flight, most):
    under_way = largest = 0
    full = asyncio.Event()
    real = triton.infer

    async def infer(*asked):
        nonlocal under_way, largest
        under_way += 1
        largest = max(largest, under_way)
        if under_way == most:
            full.set()
        async with asyncio.timeout(30):
            await full.wait()
        await asyncio.sleep(0.005)
        under_way -= 1
        return await real(*asked)

    triton.infer = infer
    await service(triton, in_flight).infer(submission(LARGE), await models.get(3))
    assert largest == most


async def test_a_batch_is_no_larger_than_settings_and_triton_allow(triton, models):
    await service(triton, batch_size=1).infer(submission(LARGE), await models.get(3))
    assert {tiles for _, tiles in triton.asked} == {1}
    triton.asked.clear()

    async def one(*_):
        return 1

    triton.largest_batch = one
    await service(triton).infer(submission(LARGE), await models.get(3))
    assert {tiles for _, tiles in triton.asked} == {1}


async def test_the_threshold_is_the_caller_s_or_the_service_s(triton, models):
    model = await models.get(3)
    asked = service(triton, confidence_threshold=0.7)
    assert (await asked.infer(submission(), model))[1].threshold == 0.7
    assert (await asked.infer(submission(confidence_threshold=0.2), model))[1].threshold == 0.2


async def test_candidates_come_back_under_their_ids(triton, models):
    given = [CandidateIn(id="a", x=60.0, y=50.0), CandidateIn(x=20.0, y=20.0)]
    _, scored = await service(triton).infer(submission(candidates=given), await models.get(3))
    assert {d.candidate_id for d in scored.detections} == {"a", "1"}
    assert not scored.extracted


async def test_views_of_a_tile_stay_together(triton, models):
    _, scored = await service(triton).infer(submission(tta=True), await models.get(3))
    assert sum(tiles for _, tiles in triton.asked) == 8 * scored.tiles // _views(scored)
    assert all(d.tta_std is not None for d in scored.detections if d.outcome == "kept")


def _views(scored) -> int:
    """Of a tile that `Scored.tiles` counts: whether it counts each view does not matter here."""
    return 8 if scored.tiles % 8 == 0 and scored.tiles > 1 else 1


async def test_other_versions_say_what_they_think_of_the_same_sources(triton, models):
    triton.networks[4] = network(3.0)
    others = [await models.get(4)]
    _, scored = await service(triton).infer(
        submission(tta=True), await models.get(3), others=others
    )
    assert {version for version, _ in triton.asked} == {3, 4}
    assert all(d.ensemble_std is not None for d in scored.detections if d.outcome == "kept")
    _, alone = await service(triton).infer(submission(tta=True), await models.get(3))
    assert all(d.ensemble_std is None for d in alone.detections)


async def test_what_cannot_be_read_is_never_shown(triton, models):
    with pytest.raises(InputError) as refused:
        await service(triton).infer(submission(b"no image"), await models.get(3))
    assert refused.value.field == "exposure"
    twice = [CandidateIn(id="a", x=1.0, y=1.0), CandidateIn(id="a", x=9.0, y=9.0)]
    with pytest.raises(InputError) as refused:
        await service(triton).infer(submission(candidates=twice), await models.get(3))
    assert refused.value.field == "candidates[1].id"
    assert triton.asked == []


async def test_nothing_is_promised_without_a_calibration(triton, models):
    with pytest.raises(InputError) as refused:
        await service(triton).infer(submission(max_false_discovery_rate=0.1), await models.get(3))
    assert refused.value.field == "max_false_discovery_rate"
    assert triton.asked == []


async def test_one_fault_ends_the_run_as_that_fault(triton, models):
    real, calls = triton.infer, 0

    async def infer(*asked):
        nonlocal calls
        calls += 1
        if calls > 1:
            raise DependencyError("triton", f"fault {calls}")
        return await real(*asked)

    triton.infer = infer
    with pytest.raises(DependencyError, match="fault 2"):
        await service(triton, in_flight=1).infer(submission(LARGE), await models.get(3))


async def test_one_that_is_given_up_asks_no_more(triton, models):
    begun = asyncio.Event()

    async def infer(*_):
        begun.set()
        await asyncio.Event().wait()

    triton.infer = infer
    run = asyncio.create_task(service(triton).infer(submission(LARGE), await models.get(3)))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


def test_the_size_of_a_submission_is_that_of_its_files():
    given = submission(b"12345")
    assert given.size == 5
