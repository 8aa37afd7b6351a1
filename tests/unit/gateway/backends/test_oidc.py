"""What an issuer may answer besides its keys. It is a server here, for a client asks it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from jwt.algorithms import RSAAlgorithm

from astrotriton.gateway.backends import oidc
from astrotriton.gateway.backends.oidc import TokenVerifier
from astrotriton.gateway.errors import DependencyError, UnauthenticatedError
from tests.integration.identity_parts import AUDIENCE, DISCOVERY, KEYS, Issuer


@pytest.fixture(scope="module")
def running():
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running):
    running.answers.clear()
    running.asked = 0
    return running


def verifier(issuer: Issuer, **changes: Any) -> TokenVerifier:
    return TokenVerifier(issuer.url, AUDIENCE, changes.get("jwks_url"))


@pytest.fixture
def now(monkeypatch):
    clock = SimpleNamespace(time=1000.0)
    monkeypatch.setattr(oidc, "time", SimpleNamespace(monotonic=lambda: clock.time))
    return clock


NOT_A_DISCOVERY = [b"[]", b"{}", b'"x"', b"null", b'{"jwks_uri": 5}', b'{"jwks_uri": "x"}', b"<p>"]
NO_KEYS = [
    *(b"[]", b"{}", b"null", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1, [], null]}'),
    *(b'{"keys": [{}]}', b'{"keys": [{"kty": "RSA", "n": 5, "e": []}]}'),
    *(b'{"keys": [{"kty": ["RSA"]}]}', b'{"keys": [{"kty": "RSA", "alg": []}]}'),
    # A shared secret that everybody can read.
    b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "1"}]}',
    *(b'{"keys": ' + b"[" * 100_000, b'{"keys": []' + b" " * 2**20 + b"}"),
]


@pytest.mark.parametrize(
    ("path", "answer"),
    [(DISCOVERY, one) for one in NOT_A_DISCOVERY] + [(KEYS, one) for one in NO_KEYS],
    ids=lambda given: given[:40] if isinstance(given, bytes) else given,
)
async def test_a_wrong_answer_is_the_issuer_s_fault(issuer, path, answer):
    issuer.answers[path] = answer
    asked = verifier(issuer)
    for _ in range(2):
        with pytest.raises(DependencyError, match="cannot be had") as refused:
            await asked.verify(issuer.token("read"))
        assert "Retry-After" in refused.value.headers


async def test_keys_that_cannot_be_used_do_not_spoil_the_others(issuer):
    bad = [1, {"kty": "RSA", "alg": []}, {"kty": "EC", "kid": "2"}]
    bad.append({**issuer.public_key(), "kid": ["3"]})
    bad += [{"kty": "RSA", "alg": "none"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]
    bad.append({**json.loads(RSAAlgorithm.to_jwk(issuer.key)), "kid": "4", "alg": "RS256"})
    issuer.answers[KEYS] = json.dumps({"keys": [*bad, issuer.public_key()]}).encode()
    asked = verifier(issuer)
    claims = await asked.verify(issuer.token("read"))
    assert claims["sub"] == "astronomer"
    # The private key, which an issuer should have kept to itself, is not one of its keys.
    with pytest.raises(UnauthenticatedError, match="not known"):
        await asked.verify(issuer.token("read", kid="4"))


async def test_keys_may_be_where_the_settings_say(issuer):
    issuer.answers[DISCOVERY] = b"[]"
    asked = verifier(issuer, jwks_url=f"{issuer.url}{KEYS}")
    assert await asked.verify(issuer.token("read"))


async def test_an_unknown_key_is_looked_for_once_in_a_while_by_all_together(issuer, now):
    asked = verifier(issuer)
    unknown = issuer.token("read", kid="9")

    async def refused() -> None:
        with pytest.raises(UnauthenticatedError, match="not known"):
            await asked.verify(unknown)

    await asyncio.gather(*(refused() for _ in range(5)))
    await refused()
    assert issuer.asked == 1
    now.time += 10.0
    await refused()
    assert issuer.asked == 2
    # A key that the issuer has changed is found then.
    issuer.answers[KEYS] = json.dumps({"keys": [{**issuer.public_key(), "kid": "9"}]}).encode()
    now.time += 10.0
    assert await asked.verify(unknown)
    with pytest.raises(UnauthenticatedError):
        await asked.verify(issuer.token("read"))


async def test_known_keys_count_while_the_issuer_fails(issuer, now):
    asked = verifier(issuer)
    assert await asked.verify(issuer.token("read"))
    issuer.answers[KEYS] = b"[]"
    now.time += 10.0
    # Nobody can tell whether the issuer has this one by now.
    with pytest.raises(DependencyError):
        await asked.verify(issuer.token("read", kid="9"))
    assert await asked.verify(issuer.token("read"))


async def test_keys_are_fetched_before_anybody_needs_them_and_then_again(issuer, monkeypatch):
    monkeypatch.setattr(oidc, "_LIFETIME", 0.01)
    asked = verifier(issuer)
    keeping = asyncio.create_task(asked.keep_keys())
    async with asyncio.timeout(60):
        while issuer.asked < 3:
            await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    issuer.answers[DISCOVERY] = b"[]"
    assert await asked.verify(issuer.token("read"))


async def test_a_fetch_ends_with_who_keeps_the_keys(issuer):
    issuer.lets_go.clear()
    keeping = asyncio.create_task(verifier(issuer).keep_keys())
    try:
        async with asyncio.timeout(60):
            while not issuer.waiting:
                await asyncio.sleep(0.01)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert "keys of the issuer" not in {one.get_name() for one in asyncio.all_tasks()}
    finally:
        issuer.lets_go.set()
