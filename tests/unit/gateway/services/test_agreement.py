"""Two versions side by side, on exposures that both have scored."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.services.agreement import AgreementService
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.storage.agreement import KeptSource
from astrotriton.gateway.storage.shadow import Comparison
from astrotriton.wire.models import Route
from tests.unit.gateway.services.stand_ins import NAME


@pytest.fixture
def service(memory, models) -> AgreementService:
    return AgreementService(memory, CatalogueService(memory, models))


def comparison(**found) -> Comparison:
    given = {"real": 2, "matched": 0, "only_champion": 0, "only_challenger": 0}
    given |= {"verdicts_changed": 0, "mean_difference": None, "largest_difference": None}
    return Comparison(**given | found)


async def test_nothing_in_common_is_said(service):
    found = await service.get(f"{NAME}:3", f"{NAME}:4", "1h")
    assert (found.exposures, found.agreement, found.mean_difference) == (0, None, None)
    assert "no exposure was scored by versions 3 and 4" in found.reason


async def test_shadows_and_runs_are_added_up(service, memory):
    memory.shadowed = {
        (3, 4): [comparison(matched=3, only_champion=1, mean_difference=0.1)],
        (4, 3): [comparison(matched=1, only_champion=2, mean_difference=0.5)],
    }
    ours, theirs = uuid4(), uuid4()
    memory.twins = [(ours, theirs)]
    memory.kept = {
        ours: [KeptSource(10.0, 10.0, 0.9, True), KeptSource(50.0, 50.0, 0.2, False)],
        theirs: [KeptSource(10.0, 10.0, 0.4, False), KeptSource(90.0, 50.0, 0.2, False)],
    }
    found = await service.get(f"{NAME}:3", f"{NAME}:4", "1h")
    assert (found.exposures, found.shadowed, found.matched) == (3, 2, 5)
    assert (found.only_model, found.only_other) == (1 + 0 + 1, 0 + 2 + 1)
    assert (found.verdicts_changed, found.agreement) == (1, pytest.approx(0.8))
    assert found.mean_difference == pytest.approx((3 * 0.1 + 0.5 + 0.5) / 5)
    assert found.largest_difference == pytest.approx(0.5)
    assert found.reason is None


@pytest.mark.parametrize("other", [f"{NAME}:3", f"{NAME}@champion"])
async def test_a_version_is_not_compared_with_itself(service, memory, other):
    if other.endswith("champion"):
        memory.routes[NAME] = route()
    with pytest.raises(InputError) as refused:
        await service.get(f"{NAME}:3", other, "1h")
    assert refused.value.field == "with"


def route() -> Route:
    return Route(
        name=NAME,
        champion=3,
        challenger=None,
        previous_champion=None,
        updated_at=datetime.now(UTC),
    )
