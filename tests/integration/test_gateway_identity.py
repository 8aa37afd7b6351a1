"""Callers are told apart while the issuer of their tokens fails, and see what is theirs."""

import asyncio
from collections.abc import Iterator

import pytest

from astrotriton.gateway.backends import oidc
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import exposure, npy, serve
from tests.integration.identity_parts import (
    DISCOVERY,
    KEYS,
    Issuer,
    assert_nobody_can_tell,
    bearer,
    guarded_by,
    key_with,
    look,
    until_let_in,
)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """One that is not started yet."""
    issuer = Issuer()
    yield issuer
    issuer.lets_go.set()
    issuer.stop()


@pytest.fixture
def guarded(settings: GatewaySettings, issuer: Issuer) -> GatewaySettings:
    return guarded_by(settings, issuer)


async def test_an_issuer_that_is_down_is_no_fault_of_the_callers(guarded, issuer):
    token, key = issuer.token("read"), await key_with(guarded, "read")
    async with serve(guarded) as client:
        # Each is told so, the first one and those that come before it is worth asking again.
        for _ in range(3):
            assert_nobody_can_tell(await look(client, token))
        assert (await look(client, key)).status_code == 200
        issuer.start()
        await until_let_in(client, token)
        issuer.stop()
        # It has been here: tokens of the key that it gave need it no more.
        assert (await look(client, token)).status_code == 200


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_an_issuer_that_answers_a_list_is_no_fault_of_the_gateway(guarded, issuer, path):
    issuer.answers[path] = b"[]"
    issuer.start()
    async with serve(guarded) as client:
        for _ in range(2):
            assert_nobody_can_tell(await look(client, issuer.token("read")))
        del issuer.answers[path]
        await until_let_in(client, issuer.token("read"))


async def test_tokens_of_a_known_key_never_wait_for_those_of_an_unknown_one(
    guarded, issuer, monkeypatch
):
    monkeypatch.setattr(oidc, "_SHORTEST_PAUSE", 0.0)
    # However long the tokens of the known key take here, the issuer is not given up meanwhile.
    monkeypatch.setattr(oidc, "_TIMEOUT", 600.0)
    issuer.start()
    async with serve(guarded) as client:
        await until_let_in(client, issuer.token("read"))
        issuer.lets_go.clear()
        unknown = [
            asyncio.create_task(look(client, issuer.token("read", kid=str(kid))))
            for kid in range(100, 120)
        ]
        async with asyncio.timeout(60):
            while not issuer.waiting:
                await asyncio.sleep(0.01)
        for _ in range(5):
            assert (await look(client, issuer.token("read"))).status_code == 200
        # The issuer still holds the request that the others wait for.
        assert issuer.waiting == 1
        issuer.lets_go.set()
        assert {(await one).status_code for one in unknown} == {401}
        assert (await look(client, issuer.token("read", kid="100"))).status_code == 401


async def test_who_may_infer_sees_its_own_runs(guarded, issuer):
    issuer.start()
    files = {"exposure": npy(exposure())}
    callers = {
        "key": await key_with(guarded, "infer"),
        "token": issuer.token("infer"),
    }
    strangers = {
        "another key": await key_with(guarded, "infer"),
        "another token": issuer.token("infer", sub="another"),
        "no reader": await key_with(guarded, "label", "admin"),
    }
    reader = await key_with(guarded, "read")
    async with serve(guarded) as client:
        await until_let_in(client, issuer.token("read"))
        for name, token in callers.items():
            headers = bearer(token)
            begun = await client.post(
                "/detections/infer", files=files, headers=headers | {"Prefer": "respond-async"}
            )
            assert begun.status_code == 202, begun.text
            where = begun.headers["location"]
            async with asyncio.timeout(300):
                while (run := await client.get(where, headers=headers)).json()[
                    "status"
                ] != "complete":
                    assert run.status_code == 200, (name, run.text)
                    await asyncio.sleep(0.1)
            assert run.json()["result"]["detections"]
            waited = await client.post("/detections/infer", files=files, headers=headers)
            own = f"/runs/{waited.json()['run_id']}"
            for path in (where, own):
                assert (await client.get(path, headers=headers)).status_code == 200
                assert (await client.get(path, headers=bearer(reader))).status_code == 200
                for stranger in strangers.values():
                    assert (await client.get(path, headers=bearer(stranger))).status_code == 403
            votable = headers | {"Accept": "application/x-votable+xml"}
            assert (await client.get(where, headers=votable)).status_code == 200
