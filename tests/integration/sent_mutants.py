"""Broken exposures, sent to a gateway as strangers would send them.

``python -m tests.integration.sent_mutants FIRST LAST`` starts a stack of its own, sends it the
mutants of a range of seeds, two at a time, and prints what came of them.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from benchmarks.hostile_clients import own_stack
from tests.integration.mutants import mutant

_AT_ONCE = 2
_PRINTED = 1000  # mutants, of which is told at a time
_STARTED = "\nprocess_start_time_seconds "


@dataclass
class Sent:
    """What came of them.

    Attributes
    ----------
    outcomes
        How many had which status and kind of problem.
    broken
        Those that no gateway should answer so: each with its seed.
    seconds
        What each took, the slowest first, with its seed.
    gateway_lost
        Whether another process answers in the end than in the beginning.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: list[tuple[float, int]] = field(default_factory=list)
    gateway_lost: bool = False


async def send_mutants(url: str, seeds: range) -> Sent:
    """Send those of a range of seeds to a gateway that asks nobody for a key."""
    sent, left = Sent(), iter(seeds)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        began = await _begin(client)
        await asyncio.gather(*(_send(client, left, sent) for _ in range(_AT_ONCE)))
        sent.gateway_lost = await _begin(client) != began
    sent.seconds.sort(reverse=True)
    return sent


async def _send(client: httpx.AsyncClient, seeds: Iterator[int], sent: Sent) -> None:
    for seed in seeds:
        content = mutant(seed)
        started = time.perf_counter()
        try:
            answer = await client.post("/detections/infer", files={"exposure": content})
        except httpx.HTTPError as error:
            sent.outcomes["no answer"] += 1
            sent.broken.append(f"seed {seed}: {error!r}")
            continue
        sent.seconds.append((round(time.perf_counter() - started, 3), seed))
        kind = "scored" if answer.is_success else answer.json()["type"].split(":")[-1]
        sent.outcomes[f"{answer.status_code} {kind}"] += 1
        if answer.status_code >= 500 or answer.status_code == 429:
            sent.broken.append(f"seed {seed}: {answer.status_code} {answer.text}")


async def _begin(client: httpx.AsyncClient) -> str:
    """When the gateway's process began."""
    metrics = (await client.get("/metrics")).text
    return metrics.partition(_STARTED)[2].split()[0]


def main() -> None:
    """Send them, print what came of them, and fail if it should not have."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("first", type=int)
    given.add_argument("last", type=int)
    asked = given.parse_args()
    failed = False
    with own_stack() as (url, _):
        for first in range(asked.first, asked.last, _PRINTED):
            seeds = range(first, min(first + _PRINTED, asked.last))
            sent = asyncio.run(send_mutants(url, seeds))
            print(f"from {first} on, {len(seeds)} mutants: {dict(sent.outcomes.most_common())}")
            print(f"gateway lost: {sent.gateway_lost}; slowest, s and seed: {sent.seconds[:5]}")
            print(*sent.broken, sep="\n", flush=True)
            failed |= sent.gateway_lost or bool(sent.broken)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
