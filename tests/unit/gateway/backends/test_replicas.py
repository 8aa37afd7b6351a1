"""The servers that share the work."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from tritonclient.utils import InferenceServerException

from astrotriton.gateway.backends import replicas as replicas_module
from astrotriton.gateway.backends import triton as triton_module
from astrotriton.gateway.backends.replicas import Replica, Replicas
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.errors import RetryLaterError

UNAVAILABLE = "StatusCode.UNAVAILABLE"


class Servers:
    """Notes who was asked, and lets some fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults: dict[str, tuple[str, str]] = {}

    async def __call__(self, replica: Replica) -> str:
        self.asked.append(replica.address)
        if replica.address in self.faults:
            message, status = self.faults[replica.address]
            raise InferenceServerException(message, status)
        return replica.address


@pytest.fixture
async def servers():
    async with Replicas("127.0.0.1:1, 127.0.0.2:1,127.0.0.3:1") as replicas:
        servers = Servers()
        servers.call = lambda: replicas.call(servers)
        servers.replicas = replicas
        yield servers


async def test_each_is_asked_in_turn(servers):
    answers = [await servers.call() for _ in range(6)]
    assert sorted(answers[:3]) == ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]
    assert answers[3:] == answers[:3]


async def test_one_that_is_not_available_is_passed_over_and_then_left_out(servers):
    servers.faults["127.0.0.2:1"] = ("connection refused", UNAVAILABLE)
    answers = [await servers.call() for _ in range(20)]
    assert "127.0.0.2:1" not in answers
    assert servers.asked.count("127.0.0.2:1") == 3
    (bad,) = [r for r in await servers.replicas.all() if r.address == "127.0.0.2:1"]
    assert bad.ejected
    bad.admit()
    del servers.faults["127.0.0.2:1"]
    assert "127.0.0.2:1" in [await servers.call() for _ in range(3)]


async def test_retries_have_a_budget(servers):
    for address in ("127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"):
        servers.faults[address] = ("connection refused", UNAVAILABLE)
    for _ in range(100):
        with pytest.raises(InferenceServerException):
            await servers.call()
    # Ten in reserve, and a tenth of the requests since.
    assert 115 <= len(servers.asked) <= 121


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Stub process is not healthy", "StatusCode.INTERNAL"),
        ("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED"),
        ("unexpected shape", "StatusCode.INVALID_ARGUMENT"),
        ("Request timeout expired", UNAVAILABLE),
    ],
)
async def test_only_what_another_may_do_better_is_sent_again(servers, message, status):
    for address in ("127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"):
        servers.faults[address] = (message, status)
    with pytest.raises(InferenceServerException):
        await servers.call()
    assert len(servers.asked) == 1


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("unexpected shape", "StatusCode.INVALID_ARGUMENT"),
        ("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED"),
        ("Exceeds maximum queue size", UNAVAILABLE),
    ],
)
async def test_what_is_no_fault_of_theirs_ejects_nobody(servers, message, status):
    for address in ("127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"):
        servers.faults[address] = (message, status)
    for _ in range(12):
        with pytest.raises(InferenceServerException):
            await servers.call()
    assert servers.replicas.faults == 0
    assert not any(replica.ejected for replica in await servers.replicas.all())


async def test_a_name_that_cannot_be_looked_up_is_asked_all_the_same():
    async with Replicas("nowhere.invalid:1") as replicas:
        assert [replica.address for replica in await replicas.all()] == ["nowhere.invalid:1"]


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("Exceeds maximum queue size", UNAVAILABLE, "busy"),
        ("Request timeout expired", UNAVAILABLE, "busy"),
        ("connection refused", UNAVAILABLE, "dependency-unavailable"),
        ("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED", "dependency-unavailable"),
    ],
)
async def test_a_full_triton_is_told_from_one_that_is_away(monkeypatch, message, status, code):
    async def refuse(*_: object) -> None:
        raise InferenceServerException(message, status)

    async with Triton("127.0.0.1:1", timeout=1.0) as triton:
        monkeypatch.setattr(triton._replicas, "call", refuse)
        with pytest.raises(RetryLaterError) as caught:
            await triton.ready_versions("any")
    assert caught.value.code == code
    assert int(caught.value.headers["Retry-After"]) > 0


async def test_a_server_that_hangs_is_not_asked_for_a_proof_which_all_would_wait_for(monkeypatch):
    asked = []

    async def deaf(**_: object) -> None:
        raise InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")

    async def live(**_: object) -> bool:
        return True

    def config_of(address: str) -> Callable[..., Awaitable[None]]:
        async def refuse(*_: object, **__: object) -> None:
            asked.append(address)
            raise InferenceServerException("no such version", "StatusCode.NOT_FOUND")

        return refuse

    async with Triton("127.0.0.1:1,127.0.0.2:1", timeout=60.0) as triton:
        hanging, other = await triton.replicas()
        for replica, greet in ((hanging, deaf), (other, live)):
            monkeypatch.setattr(replica.client, "is_server_live", greet)
            monkeypatch.setattr(replica.client, "get_model_config", config_of(replica.address))
        found = await triton.prove(SimpleNamespace(name="any"), 1, None)
    assert asked == [other.address]
    assert "no answer within 3 s" in found[hanging].detail
    assert "no such version" in found[other].detail


async def test_names_that_take_long_hide_no_server_that_hangs(monkeypatch):
    async def deaf(**_: object) -> None:
        raise InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")

    looked_up = 0

    async def slow(name: str) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        await asyncio.Event().wait()
        return [name]

    async with Triton("127.0.0.1:1", timeout=60.0) as triton:
        (hanging,) = await triton.replicas()
        monkeypatch.setattr(hanging.client, "is_server_live", deaf)
        monkeypatch.setattr(replicas_module, "look_up_servers_at", slow)
        monkeypatch.setattr(replicas_module, "_REFRESH", 0.0)
        monkeypatch.setattr(triton_module, "_LOOKING_UP", 0.01)
        for _ in range(3):
            assert "no answer within 3 s" in (await triton.find_silent(3.0))[hanging]
        # However many ask, each name is asked for once.
        assert looked_up == 1


@pytest.mark.parametrize("patience", [0.0, 60.0])
async def test_a_server_that_its_name_stands_for_no_more_is_let_go(servers, monkeypatch, patience):
    monkeypatch.setattr(replicas_module, "_LAST_REQUESTS", patience)
    before = {replica.address: replica for replica in await servers.replicas.all()}
    closed = []
    for replica in before.values():
        monkeypatch.setattr(replica.client, "close", closed_by(replica.address, closed))

    async def one_is_gone(name: str) -> list[str]:
        return [] if name == "127.0.0.2:1" else [name]

    monkeypatch.setattr(replicas_module, "look_up_servers_at", one_is_gone)
    monkeypatch.setattr(replicas_module, "_REFRESH", 0.0)
    after = await servers.replicas.all()
    assert [replica.address for replica in after] == ["127.0.0.1:1", "127.0.0.3:1"]
    await asyncio.sleep(0.01)
    # What it is working on may end.
    assert closed == ([] if patience else ["127.0.0.2:1"])
    await servers.replicas.__aexit__()
    assert sorted(closed) == sorted(before)


def closed_by(address: str, closed: list[str]) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        closed.append(address)

    return close
