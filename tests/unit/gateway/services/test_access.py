"""Who gets in, with which scope, and how often."""

from types import SimpleNamespace
from typing import Any

import pytest

from astrotriton.gateway.errors import (
    DependencyError,
    ForbiddenError,
    LimitError,
    UnauthenticatedError,
)
from astrotriton.gateway.keys import SCOPES, NewKey, new_key
from astrotriton.gateway.services import access
from astrotriton.gateway.services.access import ANONYMOUS, AccessService, Identity
from tests.unit.gateway.services.memory import Memory


class Issuer:
    """Stands in for `TokenVerifier`: tokens are valid if it knows them."""

    def __init__(self, **claims: Any) -> None:
        self.claims = {"token": {"sub": "astronomer", **claims}}

    async def verify(self, token: str) -> dict[str, Any]:
        if token not in self.claims:
            raise UnauthenticatedError("the bearer token is not valid")
        return self.claims[token]


def service(memory: Memory, issuer: Issuer | None = None, **changes: Any) -> AccessService:
    given = {"required": True, "verifier": issuer, "rate_per_minute": 60, "concurrency": 2}
    return AccessService(memory, **{**given, **changes})


def remember(memory: Memory, key: NewKey, **changes: Any) -> str:
    row = {"hash": key.hash, "scopes": key.scopes, "revoked": False, "expired": False}
    row |= {"rate_per_minute": key.rate_per_minute, "concurrency": key.concurrency}
    memory.keys[key.id] = row | changes
    return f"Bearer {key.token}"


async def test_where_nobody_is_asked_everybody_may_do_everything(memory):
    assert await service(memory, required=False).admit(None, "admin") == ANONYMOUS
    assert frozenset(SCOPES) == ANONYMOUS.scopes


async def test_a_key_lets_in_for_its_scopes(memory):
    key = new_key("test", ["read"])
    authorization = remember(memory, key)
    found = await service(memory).admit(authorization, "read")
    assert found == Identity(f"key:{key.id}", frozenset({"read"}), 60, 2)
    with pytest.raises(ForbiddenError, match="'infer'"):
        await service(memory).admit(authorization, "infer")


async def test_a_key_s_own_limits_go_before_the_service_s(memory):
    key = new_key("test", ["read"], rate_per_minute=7, concurrency=5)
    found = await service(memory).admit(remember(memory, key), "read")
    assert (found.rate_per_minute, found.concurrency) == (7, 5)


@pytest.mark.parametrize("changes", [{"revoked": True}, {"expired": True}, {"hash": b"another"}])
async def test_a_key_that_does_not_hold_is_refused_without_saying_why(memory, changes):
    authorization = remember(memory, new_key("test", ["read"]), **changes)
    with pytest.raises(UnauthenticatedError, match="not valid, or not any more"):
        await service(memory).admit(authorization, "read")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer at_x", f"Bearer {new_key('x', []).token}"],
    ids=["none", "empty", "no token", "blank", "basic", "no key", "unknown"],
)
async def test_what_is_no_key_that_is_known_is_refused(memory, authorization):
    with pytest.raises(UnauthenticatedError):
        await service(memory, Issuer()).admit(authorization, "read")


@pytest.mark.parametrize("scope", ["read label", ["read", "label"], "openid read label"])
async def test_a_token_has_the_scopes_that_it_claims_and_the_service_knows(memory, scope):
    found = await service(memory, Issuer(scope=scope)).admit("bearer token", "label")
    assert found == Identity("oidc:astronomer", frozenset({"read", "label"}), 60, 2)
    with pytest.raises(ForbiddenError):
        await service(memory, Issuer(scope=scope)).admit("bearer token", "admin")


async def test_without_an_issuer_there_are_no_tokens(memory):
    with pytest.raises(UnauthenticatedError, match="not an API key"):
        await service(memory).admit("Bearer token", "read")


async def test_a_database_that_is_away_is_named(memory):
    authorization = remember(memory, new_key("test", ["read"]))
    memory.away = True
    with pytest.raises(DependencyError):
        await service(memory).admit(authorization, "read")


async def test_a_caller_is_kept_to_its_rate_and_others_are_not(memory, monkeypatch):
    now = 100.0
    monkeypatch.setattr(access, "time", SimpleNamespace(monotonic=lambda: now))
    one = remember(memory, new_key("one", ["read"], rate_per_minute=2))
    other = remember(memory, new_key("other", ["read"]))
    asked = service(memory)
    for _ in range(2):
        await asked.admit(one, "read")
    with pytest.raises(LimitError) as refused:
        await asked.admit(one, "read")
    assert refused.value.retry_after == 30
    await asked.admit(other, "read")
    # A bucket fills steadily, and holds no more than a minute's requests.
    now += 30.0
    await asked.admit(one, "read")
    now += 3600.0
    for _ in range(2):
        await asked.admit(one, "read")
    with pytest.raises(LimitError):
        await asked.admit(one, "read")


async def test_a_caller_is_kept_to_its_concurrency(memory):
    identity = Identity("key:x", frozenset(SCOPES), concurrency=2)
    asked = service(memory)
    async with asked.working(identity), asked.working(identity), asked.working(ANONYMOUS):
        with pytest.raises(LimitError, match="at most 2"):
            async with asked.working(identity):
                pass
    with pytest.raises(ValueError, match="oops"):
        async with asked.working(identity):
            raise ValueError("oops")
    async with asked.working(identity), asked.working(identity):
        pass
