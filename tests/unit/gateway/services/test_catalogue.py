"""The versions that there are, and what they are called."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.wire.models import Challenger, Route
from tests.unit.gateway.services.stand_ins import NAME


@pytest.fixture
def catalogue(memory, models) -> CatalogueService:
    return CatalogueService(memory, models)


@pytest.fixture
def used(memory):
    """Version 2 has answered, and is served no more."""
    model_id = uuid4()
    memory.models[model_id] = {
        **{"id": model_id, "name": NAME, "version": 2, "digest": "0" * 64, "card_digest": "1" * 64},
        **{"card": '{"version": 2}', "created_at": datetime(2026, 1, 1, tzinfo=UTC)},
    }
    memory.routes[NAME] = Route(
        name=NAME,
        champion=3,
        challenger=Challenger(version=4, mode="shadow", fraction=0.1),
        previous_champion=2,
        updated_at=datetime.now(UTC),
    )
    return model_id


async def test_those_that_answered_and_those_that_are_served_newest_first(catalogue, used):
    found = await catalogue.all()
    assert [(one.version, one.served, one.roles) for one in found] == [
        (4, True, ["challenger"]),
        (3, True, ["champion"]),
        (2, False, ["previous_champion"]),
    ]
    assert [one.first_used_at is None for one in found] == [True, True, False]
    assert all(one.card is None for one in found)


@pytest.mark.parametrize(
    ("model_id", "version"),
    [
        (f"{NAME}:2", 2),
        (f"{NAME}:4", 4),
        (f"{NAME}@champion", 3),
        (f"{NAME}@challenger", 4),
        (f"{NAME}@previous_champion", 2),
    ],
)
async def test_a_version_is_found_by_number_and_by_alias_with_its_card(
    catalogue, used, model_id, version
):
    found = await catalogue.get(model_id)
    assert found.version == version
    assert found.card["version"] == version


async def test_a_version_is_found_by_its_id(catalogue, used):
    assert (await catalogue.get(str(used).upper())).version == 2


@pytest.mark.parametrize(
    "model_id", [f"{NAME}:9", f"{NAME}:0", "other:3", f"{NAME}@best", "x", "", str(UUID(int=9))]
)
async def test_what_there_is_not_is_not_found(catalogue, used, model_id):
    with pytest.raises(NotFoundError, match="give a UUID, NAME:VERSION or NAME@champion"):
        await catalogue.get(model_id)


async def test_while_triton_is_away_nobody_says_what_is_served(catalogue, used, triton):
    triton.away = True
    (found,) = await catalogue.all()
    assert (found.version, found.served) == (2, None)


async def test_a_served_version_that_cannot_be_read_is_left_out(catalogue, triton):
    triton.networks[9] = triton.networks[3]
    assert [one.version for one in await catalogue.all()] == [4, 3]


async def test_a_name_may_have_dots(catalogue, memory):
    given = {"id": uuid4(), "name": "My_U-Net_v1.2", "version": 5, "digest": "0" * 64}
    memory.models[given["id"]] = {
        **given,
        **{"card_digest": "1" * 64, "card": "{}", "created_at": datetime(2026, 1, 1, tzinfo=UTC)},
    }
    assert (await catalogue.get("My_U-Net_v1.2:5")).id == given["id"]
