"""Looks for drift: what a window is compared with, what is found, and what is told of it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.drift import (
    BASELINE_FILE,
    DESCRIPTORS,
    LEAST_EXPOSURES,
    Baseline,
)
from astrotriton.gateway.errors import DependencyError, NotFoundError, TooLittleDataError
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.drift.sampler import DriftSampler
from astrotriton.gateway.services.drift.service import DriftService
from astrotriton.gateway.storage.drift import Sample
from astrotriton.wire.drift import BaselineIn
from tests.unit.gateway import gateway_samples
from tests.unit.gateway.services.stand_ins import (
    NAME,
    SOURCE,
    Objects,
    model_service,
    network,
    publish,
    running,
    submission,
)

KNOWN, BARE = f"{NAME}:3", f"{NAME}:4"


def rows(seed: int, count: int, noise: float = 10.0) -> np.ndarray:
    """Exposures as they are described, of a camera that does not exist."""
    rng = np.random.default_rng(seed)
    middle = dict.fromkeys(DESCRIPTORS, 1.0) | {"noise": noise, "confidence_mean": 0.5}
    centre = np.array([middle[name] for name in DESCRIPTORS])
    return centre * (1.0 + 0.05 * rng.normal(size=(count, len(DESCRIPTORS))))


@pytest.fixture
def sampler(memory) -> DriftSampler:
    return DriftSampler(NAME, memory, per_minute=100)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def service(memory, triton, outbox, sampler, objects, tmp_path) -> DriftService:
    """Version 3 came with a baseline, version 4 without."""
    baseline = Baseline(rows(1, 200), "200 nights").to_npz()
    publish(tmp_path, 3, network(), files={BASELINE_FILE: baseline})
    publish(tmp_path, 4, network())
    models = model_service(tmp_path, triton)
    return DriftService(
        event_source=SOURCE,
        window="1d",
        interval=3600.0,
        report_url="s3://reports/drift",
        reports=objects,
        database=memory,
        catalogue=CatalogueService(memory, models),
        models=models,
        sampler=sampler,
        outbox=outbox,
    )


def seen(memory, described: np.ndarray, version: int = 3, minutes_ago: int = 5) -> None:
    memory.samples += [
        Sample(
            uuid4(),
            version,
            datetime.now(UTC) - timedelta(minutes=minutes_ago),
            dict(zip(DESCRIPTORS, row.tolist(), strict=True)),
        )
        for row in described
    ]


async def test_a_camera_that_stays_the_same_is_steady(service, memory):
    seen(memory, rows(2, 60))
    found = await service.check(KNOWN, "1h")
    assert (found.status, found.drifted, found.exposures) == ("steady", [], 60)
    assert found.baseline == "200 nights"
    assert {one.name for one in found.features} == set(DESCRIPTORS)
    assert await service.get(found.id) == found
    assert memory.events("model.drifted") == []


async def test_one_that_changes_is_found_by_name_and_told_once(service, memory, outbox):
    seen(memory, rows(3, 60, noise=30.0))
    found = await service.check(KNOWN, "1h")
    assert found.status == "drifted"
    assert found.drifted[0] == "noise"
    again = await service.check(KNOWN, "1h")
    assert again.status == "drifted"
    (event,) = memory.events("model.drifted")
    assert event["check_id"] == str(found.id)
    assert event["drifted"] == found.drifted
    assert [one.id for one in await service.of_model(KNOWN, 10)] == [again.id, found.id]
    assert outbox.woken


async def test_only_the_window_counts(service, memory):
    seen(memory, rows(3, 60, noise=30.0), minutes_ago=120)
    assert (await service.check(KNOWN, "1h")).exposures == 0
    assert (await service.check(KNOWN, "1d")).exposures == 60


async def test_a_few_exposures_say_nothing(service, memory):
    seen(memory, rows(2, LEAST_EXPOSURES - 1))
    found = await service.check(KNOWN, "1h")
    assert found.status == "too-little-data"
    assert f"{LEAST_EXPOSURES} are needed" in found.reason
    assert found.report.status == "off"


async def test_without_a_baseline_there_is_nothing_to_compare_with(service, memory):
    seen(memory, rows(2, 60), version=4)
    found = await service.check(BARE, "1h")
    assert (found.status, found.features, found.baseline) == ("no-baseline", [], None)
    assert "export it again" in found.reason


async def test_a_person_may_call_what_is_seen_the_baseline_and_take_it_back(service, memory):
    seen(memory, rows(3, 60, noise=30.0))
    assert (await service.check(KNOWN, "1h")).status == "drifted"
    accepted = await service.accept(KNOWN, BaselineIn(window="1h"), "key:a")
    assert accepted.exposures == 60
    assert "accepted by key:a" in accepted.description
    seen(memory, rows(4, 60, noise=30.0), minutes_ago=0)
    assert (await service.check(KNOWN, "1h")).status == "steady"
    back = await service.accept(KNOWN, BaselineIn(window=None), "key:a")
    assert (back.description, back.exposures) == ("200 nights", 200)
    assert (await service.check(KNOWN, "1h")).status == "drifted"


async def test_a_baseline_needs_enough(service, memory):
    seen(memory, rows(2, 3))
    with pytest.raises(TooLittleDataError):
        await service.accept(KNOWN, BaselineIn(window="1h"), "key:a")
    assert memory.baselines == {}


async def test_a_report_is_handed_out_once_it_is_there(service, memory):
    seen(memory, rows(2, 60))
    found = await service.check(KNOWN, "1h")
    assert found.report.status == "pending"
    with pytest.raises(NotFoundError, match="pending"):
        await service.report(found.id)


async def test_what_there_is_not_cannot_be_looked_at(service, memory):
    for ask in (
        service.check(f"{NAME}:9", "1h"),
        service.of_model(f"{NAME}:9", 1),
        service.get(uuid4()),
        service.report(uuid4()),
        service.accept(f"{NAME}:9", BaselineIn(window="1h"), "key:a"),
    ):
        with pytest.raises(NotFoundError):
            await ask
    with pytest.raises(InputError):
        await service.check(KNOWN, "1y")
    assert memory.checks == {}


async def test_what_is_scored_is_described_and_stored(sampler, inference, models, memory):
    _, scored = await inference.infer(submission(), await models.get(3))
    async with running(sampler.run()):
        sampler.offer(gateway_samples.run(1), scored)
        sampler.offer(gateway_samples.run(1), scored)
        await sampler.settle()
    one, other = memory.samples
    assert set(one.described) == set(DESCRIPTORS)
    assert one.described == other.described
    assert one.described["noise"] == pytest.approx(1.0, abs=0.2)


async def test_of_a_minute_only_so_many_are_kept(inference, models, memory):
    sampler = DriftSampler(NAME, memory, per_minute=3)
    _, scored = await inference.infer(submission(), await models.get(3))
    async with running(sampler.run()):
        for _ in range(8):
            sampler.offer(gateway_samples.run(1), scored)
        await sampler.settle()
    assert 3 <= len(memory.samples) <= 6  # two minutes, if one ends in between


async def test_samples_wait_for_the_database(sampler, inference, models, memory):
    _, scored = await inference.infer(submission(), await models.get(3))
    async with running(sampler.run()):
        sampler.offer(gateway_samples.run(1), scored)
        memory.away = True
        with pytest.raises(DependencyError):
            await sampler.settle()
        memory.away = False
        await sampler.settle()
    assert len(memory.samples) == 1
