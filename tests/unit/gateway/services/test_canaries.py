"""A canary that ends by itself: begun by the route, taken on by looks, ended by what is seen."""

import asyncio
from typing import Any

import msgspec
import pytest
from uuid_utils.compat import uuid7

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.canary import Compared
from astrotriton.gateway.errors import DependencyError, NotFoundError, VersionError
from astrotriton.gateway.services.canaries import CanaryService
from astrotriton.gateway.services.canary.journal import ScoredByBoth, Watched
from astrotriton.gateway.services.routing import Choice
from astrotriton.gateway.storage.canaries import Seen
from astrotriton.gateway.storage.detections import GivenLabel
from astrotriton.wire.models import Challenger, RouteIn
from tests.unit.gateway.services.stand_ins import BOOK, NAME, network, routing_service, submission

ALIKE = Compared(lost=0.0, gained=0.0, shift=0.0, vagueness=0.0)
WORSE = Compared(lost=0.6, gained=0.5, shift=-0.2, vagueness=0.2)


@pytest.fixture
def routing(memory, models, outbox):
    return routing_service(memory, models, outbox)


@pytest.fixture
def service(memory, outbox, routing, journal) -> CanaryService:
    return CanaryService(
        name=NAME,
        interval=1.0,
        database=memory,
        routing=routing,
        journal=journal,
        book=BOOK,
        outbox=outbox,
    )


def tried(version: int = 4, **changes: Any) -> RouteIn:
    given = {"version": version, "mode": "canary", "fraction": 1.0, "automatic": True} | changes
    return RouteIn(champion=3, challenger=Challenger(**given))


async def see(memory, journal, *pairs: Compared, runs: int = 0, seconds: float = 0.1) -> None:
    """As scoring tells of it."""
    for _ in range(runs):
        journal.answered(3, 2, 0.2)
        journal.answered(4, 2, 2 * seconds)
    watched = journal.watched
    memory.canary_seen += [(uuid7(), Seen(pair=pair)) for pair in pairs if watched]


def events(memory) -> list[tuple[str, float]]:
    return [(e["step"]["what"], e["step"]["fraction"]) for e in memory.events("model.canary")]


async def test_one_that_is_alike_becomes_the_champion_step_by_step(
    service, routing, journal, memory, outbox
):
    route = await routing.change(NAME, tried())
    assert route.challenger.fraction == 0.1  # the first step, whatever was asked for
    for fraction in (0.1, 0.5, 1.0):
        assert memory.routes[NAME].challenger.fraction == fraction
        await service.look()
        assert memory.routes[NAME].challenger.fraction == fraction  # nothing seen yet
        await see(memory, journal, ALIKE, ALIKE, runs=2)
        await service.look()
    assert (memory.routes[NAME].champion, memory.routes[NAME].previous_champion) == (4, 3)
    assert memory.routes[NAME].challenger is None
    assert events(memory) == [
        ("began", 0.1),
        ("went-on", 0.5),
        ("went-on", 1.0),
        ("promoted", 1.0),
    ]
    assert [one["champion"] for one in memory.events("model.promoted")] == [3, 4]
    canary = await service.get(NAME)
    assert (canary.status, canary.step, canary.of, canary.fraction) == ("promoted", 3, 3, 1.0)
    assert (canary.pairs, canary.runs) == (6, 6)
    assert [one.what for one in canary.steps] == ["began", "went-on", "went-on", "promoted"]
    await service.look()
    assert journal.watched is None
    assert outbox.woken


async def test_one_that_is_worse_is_sent_back_with_the_reason(service, routing, journal, memory):
    await routing.change(NAME, tried())
    await service.look()
    await see(memory, journal, *[WORSE] * 30)
    await service.look()
    assert memory.routes[NAME].champion == 3
    assert memory.routes[NAME].challenger is None
    canary = await service.get(NAME)
    assert (canary.status, canary.fraction) == ("sent-back", 0.0)
    assert "lost: the challenger does not call real what the champion does" in canary.reason
    alarmed = {one.name for one in canary.tests if one.e_value >= one.alarms_at}
    assert {"lost", "fewer", "vaguer"} <= alarmed
    assert memory.canary_seen == []
    assert events(memory)[-1] == ("sent-back", 0.0)


async def test_one_that_is_slow_is_sent_back(service, routing, journal, memory):
    await routing.change(NAME, tried())
    await service.look()
    await see(memory, journal, runs=40, seconds=0.3)
    await service.look()
    assert "latency" in (await service.get(NAME)).reason


async def test_labels_that_come_in_send_it_back(service, routing, journal, memory):
    await routing.change(NAME, tried())
    await service.look()
    sources = [ScoredByBoth(uuid7(), 0.9, 0.4, True, True) for _ in range(60)]
    await journal.scored_by_both(memory, 3, 4, sources)
    for one in sources:
        given = GivenLabel(label="real", comment=None, author="a", created_at=None)
        memory.labels.append((one.detection_id, given))
    await service.look()
    canary = await service.get(NAME)
    labels = next(one for one in canary.tests if one.name == "labels")
    assert labels.count == 60
    assert labels.mean == pytest.approx(0.6**2 - 0.1**2)
    assert "labels" in canary.reason


async def test_the_side_that_answered_does_not_matter(service, routing, journal, memory):
    await routing.change(NAME, tried())
    await service.look()
    await journal.scored_by_both(memory, 3, 4, [ScoredByBoth(uuid7(), 0.9, 0.2, True, False)])
    await journal.scored_by_both(memory, 4, 3, [ScoredByBoth(uuid7(), 0.2, 0.9, False, True)])
    first, second = (seen.pair for _, seen in memory.canary_seen)
    assert first == second
    assert first.lost == 1.0
    assert {(one.champion, one.challenger) for one in memory.canary_sources.values()} == {
        (0.9, 0.2)
    }
    # Another pair of versions is none of its business.
    await journal.scored_by_both(memory, 3, 2, [ScoredByBoth(uuid7(), 0.9, 0.2, True, False)])
    assert len(memory.canary_seen) == 2


async def test_too_little_in_a_step_ends_it(service, routing, memory, journal):
    await routing.change(NAME, tried())
    (found,) = memory.canaries.values()
    plan = msgspec.structs.replace(found.kept.plan, most_seconds=0.0)
    kept = msgspec.structs.replace(found.kept, plan=plan)
    memory.canaries[found.id] = found._replace(kept=kept)
    await service.look()
    assert "too little was seen" in (await service.get(NAME)).reason


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (RouteIn(champion=3), "version 3 is the champion, with nothing beside it"),
        (RouteIn(champion=4), "version 4 is the champion"),
        (tried(automatic=False), "with version 4 as canary beside it"),
    ],
)
async def test_another_change_of_the_route_ends_it(service, routing, memory, new, told):
    await routing.change(NAME, tried())
    await routing.change(NAME, new)
    canary = await service.get(NAME)
    assert canary.status == "ended"
    assert told in canary.reason
    assert events(memory)[-1] == ("ended", 0.0)
    await service.look()
    assert memory.routes[NAME].champion == new.champion


async def test_a_route_that_an_older_gateway_changed_ends_it_too(service, routing, memory):
    await routing.change(NAME, tried())
    memory.routes[NAME] = msgspec.structs.replace(memory.routes[NAME], challenger=None)
    await service.look()
    assert (await service.get(NAME)).status == "ended"
    assert memory.routes[NAME].challenger is None


async def test_to_ask_for_it_again_changes_nothing(service, routing, memory, journal):
    await routing.change(NAME, tried())
    await service.look()
    await see(memory, journal, ALIKE, ALIKE, runs=2)
    await service.look()
    again = await routing.change(NAME, tried())
    assert again.challenger.fraction == 0.5
    assert len(memory.canaries) == 1


async def test_a_version_that_does_not_prove_itself_waits(
    service, routing, memory, journal, triton
):
    await routing.change(NAME, tried())
    await service.look()
    await see(memory, journal, ALIKE, ALIKE, runs=2)
    del triton.networks[4]
    with pytest.raises(VersionError):
        await service.look()
    assert memory.routes[NAME].challenger.fraction == 0.1
    triton.networks[4] = network(5.0)
    await service.look()
    assert memory.routes[NAME].challenger.fraction == 0.5


async def test_a_shadow_does_not_end_by_itself(routing):
    with pytest.raises(InputError, match="only a canary"):
        await routing.change(NAME, tried(mode="shadow"))


async def test_there_was_none(service):
    for name in (NAME, "other"):
        with pytest.raises(NotFoundError, match="no canary"):
            await service.get(name)


async def test_both_sides_are_pairs(routing, memory):
    await routing.change(NAME, tried())
    found = {await routing.choose(None, f"night {i}") for i in range(60)}
    assert found == {Choice(None, 4, 3, fallback=3), Choice(None, 3, 4)}


async def test_what_the_challenger_fails_the_champion_answers(
    scoring, memory, triton, told, journal
):
    routing = scoring._routing
    await routing.change(NAME, tried())
    journal.watch(Watched(next(iter(memory.canaries)), 3, 4))
    trial = msgspec.structs.replace(memory.routes[NAME].challenger, fraction=1.0)
    memory.routes[NAME] = msgspec.structs.replace(memory.routes[NAME], challenger=trial)
    routing.forget()
    del triton.networks[4]
    given = submission()
    run = await scoring.score_and_store(given, await scoring.pending(given, "key:a", None))
    assert run.model.version == 3
    assert told.failed == [(4, "dependency-unavailable")]
    await journal.flush()
    assert [seen for _, seen in memory.canary_seen] == [Seen(version=4)]

    # Where the champion fails too, it is nobody's fault, and told as ever.
    del triton.networks[3]
    with pytest.raises(DependencyError):
        await asyncio.wait_for(
            scoring.score_and_store(given, await scoring.pending(given, "key:a", None)), 10
        )
    await journal.flush()
    assert len(memory.canary_seen) == 1


async def test_notes_wait_while_the_database_is_away(journal, memory, routing):
    await routing.change(NAME, tried())
    journal.answered(4, 1, 0.1)
    await journal.flush()
    assert memory.canary_seen == []  # nobody watches yet
    journal.watch(Watched(next(iter(memory.canaries)), 3, 4))
    journal.answered(4, 1, 0.1)
    journal.answered(2, 1, 0.1)
    memory.away = True
    with pytest.raises(DependencyError):
        await journal.flush()
    memory.away = False
    await journal.flush()
    assert [seen for _, seen in memory.canary_seen] == [Seen(version=4, seconds=0.1)]
    # What was noted of one canary is nothing to the next.
    journal.answered(4, 1, 0.1)
    journal.watch(Watched(uuid7(), 3, 2))
    await journal.flush()
    assert len(memory.canary_seen) == 1
