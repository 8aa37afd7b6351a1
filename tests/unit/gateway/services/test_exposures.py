"""Looking through runs."""

from uuid import UUID, uuid4

import msgspec
import pytest

from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.gateway.services.exposures import ExposureService
from astrotriton.wire.detections import LabelIn
from tests.unit.gateway.gateway_samples import run


@pytest.fixture
def service(memory) -> ExposureService:
    return ExposureService(memory)


@pytest.fixture
def runs(memory):
    made = [
        msgspec.structs.replace(run(3 if i == 4 else 0), run_id=UUID(int=i + 1)) for i in range(5)
    ]
    memory.runs |= {one.run_id: one for one in made}
    return made


async def test_the_newest_come_first_and_pages_end(service, runs):
    seen, after = [], None
    while True:
        page, after = await service.recent(after, 2)
        seen += [one.run_id for one in page]
        if after is None:
            break
    assert seen == [one.run_id for one in reversed(runs)]
    assert (await service.recent(None, 5))[1] is None


async def test_a_run_has_the_places_of_its_most_confident_detections(service, runs, memory):
    wanted = runs[4]
    memory.cutouts[wanted.detections[0].id] = {"pixels": b"", "png": None}
    found = await service.get(wanted.run_id, 2)
    assert found.places == [(one.x, one.y) for one in wanted.detections[:2]]
    assert found.run.detections == found.run.real == 3
    assert found.pictured == {wanted.detections[0].id}
    with pytest.raises(NotFoundError):
        await service.get(uuid4(), 2)


async def test_beside_a_detection_are_its_labels(service, runs, memory):
    first, middle, _ = (one.id for one in runs[4].detections)
    detections = DetectionService(memory)
    await detections.label(middle, LabelIn(label="artefact"), "key:a")
    await detections.label(middle, LabelIn(label="real"), "key:b")
    found = await service.surroundings(await detections.get(middle))
    assert [(one.label, one.author) for one in found.labels] == [
        ("real", "key:b"),
        ("artefact", "key:a"),
    ]
    assert found.pictured == ()
    assert found.binning is None
    assert found.opinions == {"real": ["key:b"], "artefact": ["key:a"]}
    assert await service.contested(runs[4].detections) == {middle}
    await detections.label(middle, LabelIn(label="real"), "key:a")
    assert await service.contested(runs[4].detections) == set()
    found = await service.surroundings(await detections.get(middle))
    assert found.opinions == {"real": ["key:a", "key:b"]}
    await detections.label(middle, LabelIn(label=None), "key:a")
    found = await service.surroundings(await detections.get(middle))
    assert found.opinions == {"real": ["key:b"]}
    assert (await service.surroundings(await detections.get(first))).labels == []
