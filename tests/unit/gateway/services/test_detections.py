"""Looking detections up, explaining them, labelling them."""

from uuid import UUID, uuid4

import msgspec
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.gateway.storage.listing import Filter
from astrotriton.training.weights import load_card
from astrotriton.wire.confidence import Guarantee
from astrotriton.wire.detections import LabelIn
from tests.unit.gateway.gateway_samples import run

ANY = Filter()
SIDE = 63  # of a cut-out, pixels


@pytest.fixture
def service(memory) -> DetectionService:
    return DetectionService(memory)


@pytest.fixture
def scored(memory):
    """A run of five detections, by the reference network."""
    answered = run(5)
    memory.runs[answered.run_id] = answered
    model_id, card = uuid4(), load_card()
    memory.models[model_id] = {
        **msgspec.structs.asdict(answered.model),
        "card": card.to_json().decode(),
    }
    names = card.confidence.names
    memory.features |= {d.id: [0.5] * len(names) for d in answered.detections}
    return answered


async def test_a_detection_is_found_with_what_its_run_says(service, scored):
    wanted = scored.detections[2]
    found = await service.get(wanted.id)
    assert (found.id, found.rank, found.confidence) == (wanted.id, 3, wanted.confidence)
    assert (found.run_id, found.model, found.exposure) == (
        scored.run_id,
        scored.model,
        scored.exposure,
    )
    assert found.label is None


async def test_pages_end_where_there_is_no_more(service, scored):
    seen: list[UUID] = []
    after = None
    while True:
        page = await service.find(ANY, after, 2)
        seen += [one.id for one in page.detections]
        if page.next is None:
            break
        after = page.next
    assert seen == [one.id for one in scored.detections]
    exact = await service.find(ANY, None, 5)
    assert (len(exact.detections), exact.next) == (5, None)


async def test_those_who_follow_along_come_back_with_where_they_were(service, scored, memory):
    first = await service.find(ANY, None, 3, "committed")
    rest = await service.find(ANY, first.next, 3, "committed")
    ids = [one.id for one in (*first.detections, *rest.detections)]
    assert ids == [one.id for one in scored.detections]
    assert rest.next == ids[-1] == await service.frontier()
    nothing = await service.find(ANY, rest.next, 3, "committed")
    assert (nothing.detections, nothing.next) == ([], rest.next)
    later = run(2)
    renamed = [msgspec.structs.replace(one, id=uuid4()) for one in later.detections]
    later = msgspec.structs.replace(later, run_id=uuid4(), detections=renamed)
    memory.runs[later.run_id] = later
    others = await service.find(Filter(run_id=scored.run_id), rest.next, 3, "committed")
    assert (others.detections, others.next) == ([], later.detections[-1].id)
    found = await service.find(ANY, rest.next, 3, "committed")
    assert [one.id for one in found.detections] == [one.id for one in later.detections]


async def test_a_page_begins_after_a_detection_that_there_is(service, scored):
    with pytest.raises(InputError) as refused:
        await service.find(ANY, uuid4(), 3)
    assert refused.value.field == "after"


async def test_where_nothing_is_stored_nobody_is_told_to_come_back(service):
    assert await service.frontier() is None
    page = await service.find(ANY, None, 3, "committed")
    assert (page.detections, page.next) == ([], None)


async def test_a_list_is_walked_through_and_what_was_labelled_is_passed_by(service, scored):
    first, second, third, *_, last = (one.id for one in scored.detections)
    within = Filter(run_id=scored.run_id)
    assert await service.beside(first, within) == (None, second)
    assert (await service.beside(last, within)).after is None
    unlabelled = Filter(run_id=scored.run_id, label="none")
    for one in (second, third):
        await service.label(one, LabelIn(label="real"), "key:a")
    assert (await service.beside(first, unlabelled)).after == scored.detections[3].id
    # Back to what was labelled a moment ago.
    assert (await service.beside(third, unlabelled)).before == second
    with pytest.raises(NotFoundError):
        await service.beside(uuid4(), within)


async def test_a_confidence_is_derived_from_what_was_stored(service, scored):
    found = await service.explain(scored.detections[0].id)
    assert found.derivation is not None
    assert found.confidence == scored.detections[0].confidence
    assert found.tta is False
    assert found.guarantee is None


async def test_what_was_promised_is_told(service, scored, memory):
    promised = Guarantee(
        max_false_discovery_rate=0.1, threshold=0.4, confidence_level=0.9, exposures=60
    )
    memory.runs[scored.run_id] = msgspec.structs.replace(scored, guarantee=promised)
    assert (await service.explain(scored.detections[0].id)).guarantee == promised


@pytest.mark.parametrize("change", ["no features", "an old card"])
async def test_what_was_stored_otherwise_has_no_derivation(service, scored, memory, change):
    if change == "no features":
        memory.features.clear()
    else:
        for model in memory.models.values():
            model["card"] = "{}"
    found = await service.explain(scored.detections[0].id)
    assert found.derivation is None
    assert found.confidence == scored.detections[0].confidence


async def test_labels_are_set_and_withdrawn_and_none_is_lost(service, scored, memory):
    one = scored.detections[0].id
    assert (await service.label(one, LabelIn(label="real"), "key:a")).label == "real"
    withdrawn = await service.label(one, LabelIn(label=None, comment="not sure"), "key:b")
    assert withdrawn.label is None
    assert [(given.label, given.comment, given.author) for _, given in memory.labels] == [
        ("real", None, "key:a"),
        (None, "not sure", "key:b"),
    ]


async def test_what_there_is_not_is_not_found(service, scored):
    for ask in (
        service.get(uuid4()),
        service.explain(uuid4()),
        service.label(uuid4(), LabelIn(label="real"), "key:a"),
    ):
        with pytest.raises(NotFoundError):
            await ask
