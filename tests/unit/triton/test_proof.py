"""What every instance of a version is asked, and which answers are right."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from astrotriton.detection.quality.golden import TOLERANCE, Golden
from astrotriton.triton.proof import proof_of, prove, prove_in_turn
from astrotriton.triton.versions import instances_of, ready_versions

TILE = np.linspace(0, 1, 48, dtype=np.float32).reshape(1, 1, 6, 8)
GOLDEN = Golden(TILE, 1.0 - TILE)


def config(largest: int, *instances: int) -> SimpleNamespace:
    groups = [SimpleNamespace(count=count, gpus=()) for count in instances]
    return SimpleNamespace(max_batch_size=largest, instance_group=groups)


@pytest.mark.parametrize(("largest", "copies"), [(0, 1), (1, 1), (2, 2), (8, 5), (9, 5), (32, 17)])
def test_two_requests_never_fit_in_one_batch(largest, copies):
    tiles, requests = proof_of(GOLDEN, config(largest, 2, 3))
    assert tiles.shape == (copies, 1, 6, 8)
    assert 2 * len(tiles) > largest
    assert requests == 5
    assert (tiles == TILE).all()


def test_there_is_an_instance_even_where_none_is_configured():
    assert instances_of(config(8)) == 1
    assert instances_of(config(8, 0)) == 1


async def test_every_instance_is_asked_at_once():
    under_way, most = 0, 0

    async def ask(tiles):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return 1.0 - tiles

    verdict = await prove(GOLDEN, config(4, 3), ask)
    assert verdict.fault is None
    assert verdict.difference <= TOLERANCE
    assert most == 3
    most = 0
    assert (await prove_in_turn(GOLDEN, config(4, 3), ask)).fault is None
    assert most == 1


async def test_one_wrong_instance_is_enough():
    answers = iter([1.0 - TILE, 1.0 - TILE + np.float32(0.25), 1.0 - TILE])

    async def ask(tiles):
        return next(answers)

    verdict = await prove(GOLDEN, config(0, 3), ask)
    assert verdict.difference == pytest.approx(0.25)
    assert verdict.fault.startswith("by 0.25, of which at most 0.0001 is allowed: at row ")


async def test_no_request_outlives_the_proof():
    ended = []

    async def ask(tiles):
        if not ended:
            ended.append("failed")
            raise RuntimeError("this one fails")
        await asyncio.sleep(0.01)
        ended.append("answered")
        return 1.0 - tiles

    with pytest.raises(RuntimeError, match="this one fails"):
        await prove(GOLDEN, config(0, 3), ask)
    assert ended == ["failed", "answered", "answered"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "shape None where"),
        (TILE[..., 1:], r"shape \(1, 1, 6, 7\) where \(1, 1, 6, 8\)"),
        (np.full_like(TILE, np.nan), "it answers nan instead of"),
    ],
)
def test_an_answer_that_no_number_tells_is_wrong(answer, words):
    verdict = GOLDEN.judge([1.0 - TILE, answer])
    assert verdict.difference == float("inf")
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(verdict.fault)


def test_versions_that_are_ready():
    index = SimpleNamespace(
        models=[
            SimpleNamespace(name=name, state=state, version=version)
            for name, state, version in [
                ("unet", "READY", "12"),
                ("unet", "READY", "9"),
                ("unet", "UNAVAILABLE", "13"),
                ("unet", "READY", ""),
                ("other", "READY", "1"),
            ]
        ]
    )
    assert ready_versions(index, "unet") == [9, 12]


def test_a_group_has_its_count_on_each_of_its_gpus():
    groups = [SimpleNamespace(count=2, gpus=[0, 1, 3]), SimpleNamespace(count=1, gpus=[])]
    assert instances_of(SimpleNamespace(instance_group=groups)) == 7
