"""Tiles handed to a Triton of this host in memory, instead of through its socket."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from astrotriton.detection.card import UNetModel
from astrotriton.gateway.backends import shared_memory
from astrotriton.gateway.backends.replicas import Replica
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.errors import BusyError, ModelAnswerError
from tests.integration.gateway_parts import NAME, NAN_NAME, TILE, TritonServer

VERSION = 3
SHM = Path("/dev/shm")


@pytest.fixture
def card(model_repository: Path) -> UNetModel:
    return UNetModel.from_json((model_repository / NAME / str(VERSION) / "card.json").read_bytes())


@asynccontextmanager
async def sharing(server: TritonServer) -> AsyncIterator[tuple[Triton, Replica]]:
    async with Triton(server.address, timeout=20.0, share=True) as client:
        (replica,) = await client.replicas()
        yield client, replica


def tiles(count: int, seed: int) -> np.ndarray:
    shape = (count, 1, TILE, TILE)
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


async def registered(replica: Replica) -> set[str]:
    """The regions that a server has mapped."""
    status = await replica.client.get_system_shared_memory_status()
    return {name for name in status.regions if name.startswith("astrotriton-")}


def named() -> set[str]:
    return {path.name for path in SHM.glob("astrotriton-*")}


async def test_answers_are_those_of_the_socket(triton, card):
    async with (
        Triton(triton.address, timeout=20.0) as plain,
        sharing(triton) as (client, replica),
    ):
        for count, seed in ((1, 1), (2, 2), (1, 3)):
            shown = tiles(count, seed)
            expected = await plain.infer(card, VERSION, shown)
            np.testing.assert_array_equal(await client.infer(card, VERSION, shown), expected)
        # One for each size; the third request found the first one's free.
        assert len(await registered(replica)) == 2
        assert not named()
    async with sharing(triton) as (_, replica):
        assert not await registered(replica)


async def test_requests_at_once_do_not_share_a_region(triton, card):
    shown = [tiles(1, seed) for seed in range(8)]
    async with (
        Triton(triton.address, timeout=20.0) as plain,
        sharing(triton) as (client, replica),
    ):
        found = await asyncio.gather(*(client.infer(card, VERSION, one) for one in shown))
        for one, answer in zip(shown, found, strict=True):
            np.testing.assert_array_equal(answer, await plain.infer(card, VERSION, one))
        assert len(await registered(replica)) == len(shown)


@pytest.mark.faults
async def test_a_server_started_anew_is_given_new_ones(model_repository, tmp_path, card):
    with TritonServer(model_repository, tmp_path / "triton") as server:
        async with sharing(server) as (client, replica):
            shown = tiles(1, 1)
            before = await client.infer(card, VERSION, shown)
            server.stop()
            server.start()
            np.testing.assert_array_equal(await client.infer(card, VERSION, shown), before)
            assert len(await registered(replica)) == 1


async def test_what_triton_may_still_write_to_is_left_alone(triton, card, monkeypatch):
    monkeypatch.setattr(shared_memory, "_REST", 0.5)
    async with sharing(triton) as (client, replica):
        await client.infer(card, VERSION, tiles(1, 1))
        (first,) = await registered(replica)
        given_up = asyncio.ensure_future(client.infer(card, VERSION, tiles(1, 2)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        await client.infer(card, VERSION, tiles(1, 3))
        assert len(await registered(replica)) == 2
        await asyncio.sleep(1.0)
        # It has rested.
        await asyncio.gather(*(client.infer(card, VERSION, tiles(1, seed)) for seed in (4, 5)))
        assert len(await registered(replica)) == 2
        assert first in await registered(replica)


async def test_a_refusal_leaves_the_region_free(triton, card):
    async with sharing(triton) as (client, replica):
        for _ in range(3):
            with pytest.raises(Exception, match="99"):
                await client.infer(card, 99, tiles(1, 1))
        assert len(await registered(replica)) == 1


@pytest.mark.parametrize("said", ["Exceeds maximum queue size", "Request timeout expired"])
async def test_a_full_queue_leaves_the_region_free(triton, card, monkeypatch, said):
    async def full(*_: object, **__: object) -> None:
        raise InferenceServerException(said, "StatusCode.UNAVAILABLE")

    async with sharing(triton) as (client, replica):
        await client.infer(card, VERSION, tiles(1, 1))
        infer = replica.client.infer
        monkeypatch.setattr(replica.client, "infer", full)
        for _ in range(3):
            with pytest.raises(BusyError):
                await client.infer(card, VERSION, tiles(1, 1))
        monkeypatch.setattr(replica.client, "infer", infer)
        await client.infer(card, VERSION, tiles(1, 1))
        assert len(await registered(replica)) == 1


async def test_answers_that_are_refused_leave_the_region_free(triton, card):
    nan = msgspec.structs.replace(card, name=NAN_NAME)
    async with sharing(triton) as (client, replica):
        for _ in range(3):
            with pytest.raises(ModelAnswerError):
                await client.infer(nan, 1, tiles(1, 1))
        assert len(await registered(replica)) == 1


async def test_a_server_elsewhere_is_sent_tiles(triton, card, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)  # where it does not look
    async with sharing(triton) as (client, replica):
        with caplog.at_level(logging.WARNING):
            answers = [await client.infer(card, VERSION, tiles(1, 1)) for _ in range(2)]
        assert not await registered(replica)
    np.testing.assert_array_equal(*answers)
    (told,) = [record.message for record in caplog.records if "memory" in record.message]
    assert triton.address in told
    assert not list(tmp_path.iterdir())


async def test_full_memory_is_not_written_to(triton, card, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    async with sharing(triton) as (client, replica):
        with caplog.at_level(logging.WARNING):
            await client.infer(card, VERSION, tiles(1, 1))
        assert not await registered(replica)
    assert "No space left" in caplog.text
    assert not named()


async def test_an_answer_that_was_not_written_is_refused(triton, card, monkeypatch):
    shown = tiles(1, 1)
    async with sharing(triton) as (client, _):
        await client.infer(card, VERSION, shown)
        # The answer before is still there: what is read must not be that one.
        read = shared_memory.Region.read

        def unwritten(region: shared_memory.Region, start: int, shape: tuple[int, ...]):
            region.write(shown)
            return read(region, start, shape)

        monkeypatch.setattr(shared_memory.Region, "read", unwritten)
        with pytest.raises(ModelAnswerError):
            await client.infer(card, VERSION, shown)
