"""The proof by golden tile: what every instance of a served version is asked.

Which instance answers can't be chosen. But an instance takes one batch at a time, and requests of
more than half the largest batch can't be joined in one: as many of them at once as there are
instances keep each instance busy with its own. `Golden.judge` says which answers are right.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.quality.golden import Golden, Verdict
from astrotriton.triton.versions import instances_of


class Proof(NamedTuple):
    """What is sent.

    Attributes
    ----------
    tiles
        Of each request: copies of the golden tile, float32 (n, C, H, W).
    requests
        How many, all at once.
    """

    tiles: Image
    requests: int


def proof_of(golden: Golden, config: Any) -> Proof:
    """What has to be sent at once, so that every instance answers.

    Parameters
    ----------
    golden
        Of the version.
    config
        Its ``ModelConfig``, as Triton says it.
    """
    copies = config.max_batch_size // 2 + 1
    return Proof(np.repeat(golden.image, copies, axis=0), instances_of(config))


async def prove(
    golden: Golden, config: Any, ask: Callable[[Image], Awaitable[Image | None]]
) -> Verdict:
    """Let every instance answer the golden tile.

    Parameters
    ----------
    golden, config
        As `proof_of` takes them.
    ask
        Sends tiles in one request; None if the answer holds none. What it raises comes through,
        once every other request has ended.
    """
    tiles, requests = proof_of(golden, config)
    answers = await asyncio.gather(*(ask(tiles) for _ in range(requests)), return_exceptions=True)
    told: list[Image | None] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        told.append(answer)
    return golden.judge(told)


async def prove_in_turn(
    golden: Golden, config: Any, ask: Callable[[Image], Awaitable[Image | None]]
) -> Verdict:
    """Send lone golden tiles one after the other, twice as many as instances, which take turns.

    That is cheap, and does not make sure of every instance.
    """
    return golden.judge([await ask(golden.image) for _ in range(2 * instances_of(config))])
