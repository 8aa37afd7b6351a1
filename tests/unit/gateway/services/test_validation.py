"""Validations: labelled fields scored by a version as it is served, judged, and told."""

import asyncio
import io
from uuid import uuid4

import numpy as np
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.errors import BusyError, DependencyError, NotFoundError
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.datasets import Dataset, LabelledExposure
from astrotriton.gateway.services.validation import ValidationService
from astrotriton.training.weights import load_card
from astrotriton.wire.validation import ValidateIn
from tests.unit.gateway.services.stand_ins import (
    NAME,
    SOURCE,
    exposure,
    model_service,
    network,
    publish,
    running,
    until,
)

GOOD, BLIND = f"{NAME}:3", f"{NAME}:4"
FIELDS = 4


class Labelled:
    """Stands in for `Datasets`: fields of eight sources."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.may = asyncio.Event()
        self.may.set()

    def check(self, name: str) -> None:
        """Anything may be opened."""

    async def open(self, name: str, version: int) -> Dataset:
        await self.may.wait()
        if self.fault is not None:
            raise self.fault
        return Dataset(name, f"s3://{name}", "0" * 64, [self._field(i) for i in range(FIELDS)])

    def _field(self, seed: int) -> LabelledExposure:
        rng = np.random.default_rng(seed)
        places = [(x + rng.uniform(-3, 3), y + rng.uniform(-3, 3)) for x in (30, 90, 150, 210)
                  for y in (40, 110)]  # fmt: skip
        content = exposure(*places, shape=(150, 240), seed=seed)

        async def read() -> bytes:
            return content

        return LabelledExposure(
            f"{seed}.npy", None, Transients.of(np.array(places), np.full(8, 30.0)), read
        )


@pytest.fixture
def labelled() -> Labelled:
    return Labelled()


@pytest.fixture
def service(memory, triton, inference, outbox, labelled, tmp_path) -> ValidationService:
    """Version 3 finds every source, version 4 none."""
    for version, sigma in ((3, 6.0), (4, 1e3)):
        card = load_card()
        publish(
            tmp_path,
            version,
            network(sigma),
            confidence=card.confidence,
            confidence_tta=card.confidence_tta,
        )
        triton.networks[version] = network(sigma)
    models = model_service(tmp_path, triton)
    return ValidationService(
        event_source=SOURCE,
        limits=GateLimits(min_average_precision=0.5, min_completeness=0.5, min_purity=0.5),
        database=memory,
        catalogue=CatalogueService(memory, models),
        models=models,
        datasets=labelled,
        inference=inference,
        admission=Admission(running=1, waiting=1, most_bytes=10_000_000),
        outbox=outbox,
    )


async def validated(service, model=GOOD, **asked):
    begun = await service.start(model, ValidateIn(**asked), "key:a")
    async with asyncio.timeout(60):
        while (found := await service.get(begun.id)).finished_at is None:
            await asyncio.sleep(0.005)
    return found


async def test_a_version_is_judged_by_the_gates_of_promotion(service, memory, outbox):
    found = await validated(service, dataset="night")
    assert found.status == "complete", found.problem
    assert found.figures["completeness"] == 1.0
    assert [gate.name for gate in found.gates] == ["accuracy", "calibration"]
    assert found.passed == all(gate.passed for gate in found.gates)
    assert (found.description, found.requested_by) == ("night", "key:a")
    (event,) = memory.events("model.validated")
    assert event["validation_id"] == str(found.id)
    assert event["failed_gates"] == [gate.name for gate in found.gates if not gate.passed]
    assert outbox.woken == 1


async def test_one_that_is_worse_than_another_fails_by_name(service, memory):
    found = await validated(service, BLIND, compare_with=GOOD)
    assert found.status == "complete", found.problem
    assert found.passed is False
    failed = {gate.name for gate in found.gates if not gate.passed}
    assert {"accuracy", "accuracy_change"} <= failed
    assert found.compared["completeness"] == 1.0
    assert found.compared_curves is not None
    assert set(memory.events("model.validated")[0]["failed_gates"]) == failed


async def test_it_is_the_version_s_own_data_set_unless_another_is_named(service):
    assert (await validated(service)).dataset == "default"


@pytest.mark.parametrize(
    "fault",
    [
        InputError("no-truth", "truth.json", "there is none"),
        DependencyError("s3", "it is away"),
        ZeroDivisionError(),
    ],
)
async def test_what_cannot_be_read_fails_the_validation_and_says_why(
    service, labelled, memory, fault
):
    labelled.fault = fault
    found = await validated(service)
    assert found.status == "failed"
    assert found.problem is not None
    if isinstance(fault, InputError):
        assert found.problem.field == "truth.json"
    assert memory.events("model.validated") == []


async def test_a_field_that_cannot_be_scored_is_named(service, labelled):
    async def read() -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.zeros((3, 4, 5)))
        return stream.getvalue()

    field = labelled._field
    labelled._field = lambda seed: (
        LabelledExposure("2.npy", None, Transients.of(np.zeros((0, 2)), np.zeros(0)), read)
        if seed == 2
        else field(seed)
    )
    found = await validated(service)
    assert found.problem.field == "2.npy"


async def test_only_a_few_wait(service, labelled):
    labelled.may.clear()
    begun = [await service.start(GOOD, ValidateIn(), "key:a") for _ in range(4)]
    with pytest.raises(BusyError):
        await service.start(GOOD, ValidateIn(), "key:a")
    labelled.may.set()
    async with asyncio.timeout(120):
        for one in begun:
            while (await service.get(one.id)).finished_at is None:
                await asyncio.sleep(0.005)
    assert {(await service.get(one.id)).status for one in begun} == {"complete"}
    assert [one.id for one in await service.of_model(GOOD, 2)] == [begun[3].id, begun[2].id]


async def test_one_under_way_at_the_end_is_stored_as_failed(service, labelled, memory):
    labelled.may.clear()
    async with running(service.run()):
        begun = await service.start(GOOD, ValidateIn(), "key:a")
        await asyncio.sleep(0)
    await until(lambda: memory.under_way[begun.id].finished_at)
    found = await service.get(begun.id)
    assert found.status == "failed"
    assert "stopped" in found.problem.detail


async def test_what_there_is_not_cannot_be_validated(service, memory):
    for ask in (
        service.start(f"{NAME}:9", ValidateIn(), "key:a"),
        service.start(GOOD, ValidateIn(compare_with=f"{NAME}:9"), "key:a"),
        service.get(uuid4()),
        service.of_model(f"{NAME}:9", 1),
    ):
        with pytest.raises(NotFoundError):
            await ask
    assert memory.under_way == {}
