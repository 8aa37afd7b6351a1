"""Which version answers, and what a change of the route lets through."""

import asyncio
from datetime import UTC, datetime

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.errors import (
    DependencyError,
    ModelNotServedError,
    NotFoundError,
    VersionError,
)
from astrotriton.gateway.services import routing
from astrotriton.gateway.services.routing import Choice, RoutingService
from astrotriton.wire.models import Challenger, Route, RouteIn
from tests.unit.gateway.services.stand_ins import (
    NAME,
    Server,
    model_service,
    network,
    publish,
    routing_service,
)


@pytest.fixture
def service(memory, models, outbox) -> RoutingService:
    return routing_service(memory, models, outbox)


def routed(memory, champion=3, previous=None, **trial) -> None:
    memory.routes[NAME] = Route(
        name=NAME,
        champion=champion,
        challenger=Challenger(**trial) if trial else None,
        previous_champion=previous,
        updated_at=datetime.now(UTC),
    )


async def test_without_a_route_the_settings_choose(service):
    assert await service.choose(None, "night") == Choice(None, 4)
    assert await service.choose("champion", "night") == Choice("champion", 4)
    assert await service.choose(3, "night") == Choice(3, 3)
    with pytest.raises(InputError, match="9 is not served"):
        await service.choose(9, "night")
    with pytest.raises(InputError, match="there is no challenger"):
        await service.choose("challenger", "night")


async def test_the_settings_may_name_a_version(memory, folder, triton, outbox):
    models = model_service(folder, triton, model_version="3")
    service = routing_service(memory, models, outbox)
    assert (await service.choose(None, "night")).version == 3
    del triton.networks[3]
    with pytest.raises(ModelNotServedError, match="version 3"):
        await service.choose(None, "night", fresh=True)


async def test_the_champion_answers_and_others_if_they_are_asked_for(service, memory):
    routed(memory, champion=3, previous=2, version=4, mode="shadow", fraction=0.01)
    assert await service.choose("champion", "night") == Choice("champion", 3)
    assert await service.choose("challenger", "night") == Choice("challenger", 4)
    assert {v: (await service.choose(v, "night")).version for v in (2, 3, 4)} == {2: 2, 3: 3, 4: 4}
    with pytest.raises(InputError, match=r"9 may not answer, only \[2, 3, 4\]"):
        await service.choose(9, "night")


async def test_a_canary_answers_its_share_of_the_exposures_and_always_the_same(service, memory):
    routed(memory, version=4, mode="canary", fraction=0.25)
    names = [f"night {i}" for i in range(400)]
    first = [(await service.choose(None, name)).version for name in names]
    assert 70 < first.count(4) < 130
    assert set(first) == {3, 4}
    assert first == [(await service.choose(None, name)).version for name in names]
    # A larger share keeps those that were the canary's.
    routed(memory, version=4, mode="canary", fraction=0.5)
    more = [(await service.choose(None, name, fresh=True)).version for name in names]
    assert {n for n, v in zip(names, first, strict=True) if v == 4} <= {
        n for n, v in zip(names, more, strict=True) if v == 4
    }


async def test_a_shadow_is_named_and_never_answers(service, memory):
    routed(memory, version=4, mode="shadow", fraction=1.0)
    assert await service.choose(None, "night") == Choice(None, 3, shadow=4)
    assert await service.choose("champion", "night") == Choice("champion", 3)
    routed(memory, version=4, mode="shadow", fraction=1e-9)
    assert await service.choose(None, "night", fresh=True) == Choice(None, 3)


async def test_the_exposure_s_name_is_waited_for_only_where_it_counts(service, memory):
    never = asyncio.get_running_loop().create_future()
    routed(memory)
    assert (await service.choose(None, never)).version == 3
    routed(memory, version=4, mode="canary", fraction=1.0)
    asked = asyncio.create_task(service.choose(None, never, fresh=True))
    await asyncio.sleep(0)
    assert not asked.done()
    never.set_result("night")
    assert (await asked).version == 4


async def test_what_was_read_a_moment_ago_counts_unless_a_version_is_named(
    service, memory, monkeypatch
):
    routed(memory, champion=3)
    assert (await service.choose(None, "night")).version == 3
    routed(memory, champion=4, previous=3)
    assert (await service.choose(None, "night")).version == 3
    assert (await service.choose(4, "night")).version == 4
    assert (await service.choose(None, "night")).version == 4  # read for the one that was named
    routed(memory, champion=3)
    assert (await service.choose(None, "night", fresh=True)).version == 3
    routed(memory, champion=4)
    monkeypatch.setattr(routing, "_RECENT", -1.0)
    assert (await service.choose(None, "night")).version == 4


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        (None, {3, 4}),
        ("champion", {3}),
        ("challenger", {4}),
        (3, {2, 3, 4}),
    ],
)
async def test_a_run_is_confirmed_only_if_its_version_may_still_answer(
    service, memory, wanted, allowed
):
    routed(memory, champion=3, previous=2, version=4, mode="canary", fraction=0.5)
    async with memory.transaction() as connection:
        confirmed = {
            version
            for version in (1, 2, 3, 4)
            if await service.still_allows(connection, Choice(wanted, version))
        }
        assert confirmed == allowed
        routed(memory, champion=3, previous=2, version=4, mode="shadow", fraction=0.5)
        assert not await service.still_allows(connection, Choice(None, 4))
        memory.routes.clear()
        assert await service.still_allows(connection, Choice(None, 1))


async def test_a_promotion_is_stored_told_and_counts_here_at_once(service, memory, outbox):
    assert (await service.change(NAME, RouteIn(champion=3))).champion == 3
    assert (await service.choose(None, "night")).version == 3
    second = await service.change(NAME, RouteIn(champion=4))
    assert (second.champion, second.previous_champion) == (4, 3)
    assert (await service.choose(None, "night")).version == 4
    assert await service.get(NAME) == second
    assert [one["champion"] for one in memory.events("model.promoted")] == [3, 4]
    # The same champion with a challenger is no promotion.
    trial = Challenger(version=3, mode="shadow", fraction=0.5)
    again = await service.change(NAME, RouteIn(champion=4, challenger=trial))
    assert again.previous_champion == 3
    assert len(memory.events("model.promoted")) == 2
    assert outbox.woken == 3


async def test_a_version_that_does_not_prove_itself_everywhere_changes_nothing(
    service, memory, triton, outbox
):
    triton.servers.append(Server("other:8001", off=1e-3))
    for route, field in (
        (RouteIn(champion=3), "champion"),
        (RouteIn(champion=9), "champion"),
    ):
        with pytest.raises(VersionError) as refused:
            await service.change(NAME, route)
        assert refused.value.field == field
    triton.servers.pop()
    trial = Challenger(version=9, mode="canary", fraction=0.5)
    with pytest.raises(VersionError) as refused:
        await service.change(NAME, RouteIn(champion=3, challenger=trial))
    assert refused.value.field == "challenger.version"
    assert memory.routes == {}
    assert memory.outbox == []
    assert outbox.woken == 0


async def test_a_server_that_is_away_keeps_a_version_from_being_routed_to(service, triton):
    triton.servers.append(Server("other:8001", away=True))
    with pytest.raises(VersionError, match="at other:8001"):
        await service.change(NAME, RouteIn(champion=3))


async def test_a_challenger_is_another_version(service):
    trial = Challenger(version=3, mode="shadow", fraction=1.0)
    with pytest.raises(InputError) as refused:
        await service.change(NAME, RouteIn(champion=3, challenger=trial))
    assert refused.value.code == "challenger-is-champion"


async def test_other_models_and_no_route_are_not_found(service):
    with pytest.raises(NotFoundError, match="'other'"):
        await service.change("other", RouteIn(champion=3))
    with pytest.raises(NotFoundError, match="'other'"):
        await service.get("other")
    with pytest.raises(NotFoundError, match="has no route"):
        await service.get(NAME)


async def test_a_change_that_cannot_be_stored_is_not_told(service, memory, outbox):
    memory.away = True
    with pytest.raises(DependencyError):
        await service.change(NAME, RouteIn(champion=3))
    assert outbox.woken == 0


async def test_a_golden_tile_that_is_off_is_named(memory, triton, outbox, tmp_path):
    publish(tmp_path, 3, network(5.5))
    models = model_service(tmp_path, triton)
    service = routing_service(memory, models, outbox)
    with pytest.raises(VersionError, match="answers the golden tile wrong"):
        await service.change(NAME, RouteIn(champion=3))
