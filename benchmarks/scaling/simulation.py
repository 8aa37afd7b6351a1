"""Exposures on their way through gateways and Tritons, as queues.

A closed set of clients or a list of arrivals; gateways, each with so many exposures inside at once;
Tritons that take batches in turn; a database. What everything costs is measured, what follows from
queueing is simulated. Where all of it shares one machine's cores, work takes turns on them.
"""

import itertools
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

Values = NDArray[np.float64]
_Steps = Generator[simpy.Event, Any, None]

# Work that shares cores or Python's lock takes turns of this length, seconds: Python's own.
_QUANTUM = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds that a core or a Triton's instance is busy.

    Attributes
    ----------
    client
        Of the sender, for an exposure; matters where it shares the cores.
    before, after
        Of the gateway for an exposure: until the first tile is sent, and after the last answer.
    tile
        Of the gateway, for each tile.
    inference
        Of an instance, for a tile: values to draw from.
    server
        Of Triton itself, for a tile.
    database
        Of PostgreSQL, for an exposure.
    spread
        What single exposures cost, relative to all of that: values to draw from.
    """

    client: float = 0.0
    before: float
    after: float
    tile: float = 0.0
    inference: Sequence[float]
    server: float = 0.0
    database: float = 0.0
    spread: Sequence[float] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What there is.

    Attributes
    ----------
    gateways, inside
        Gateways, and how many exposures one has inside at once.
    gateway_cores
        Cores that a gateway can use; Python's own work has one.
    tritons, instances
        Tritons, and instances of the model in each.
    batch
        Tiles that an instance takes at once.
    cores
        Cores that all of it shares; None: everything has its own.
    """

    gateways: int = 1
    inside: int = 8
    gateway_cores: int = 1
    tritons: int = 1
    instances: int = 1
    batch: int = 4
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the exposures.

    Attributes
    ----------
    latencies
        Seconds from arrival to answer, float64 (N,), in the order of the answers.
    seconds
        From the first arrival to the last answer.
    """

    latencies: Values
    seconds: float

    @property
    def throughput(self) -> float:
        """Exposures a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Seconds within which this share was answered."""
        return float(np.quantile(self.latencies, share))


def closed(site: Site, costs: Costs, clients: int, exposures: int, tiles: int = 1) -> Outcome:
    """Clients that each send the next exposure when the last one is answered."""
    run = _Run(site, costs, tiles)
    left = iter(range(exposures))

    def client() -> _Steps:
        for _ in left:
            yield run.environment.process(run.exposure())

    for _ in range(clients):
        run.environment.process(client())
    return run.finish()


def opened(site: Site, costs: Costs, arrivals: Sequence[float], tiles: int = 1) -> Outcome:
    """Exposures that arrive at given seconds, whatever becomes of those before."""
    run = _Run(site, costs, tiles)

    def sky() -> _Steps:
        for at in arrivals:
            yield run.environment.timeout(at - run.environment.now)
            run.environment.process(run.exposure())

    run.environment.process(sky())
    return run.finish()


class _Run:
    def __init__(self, site: Site, costs: Costs, tiles: int) -> None:
        self.environment = env = simpy.Environment()
        self._site, self._costs, self._tiles = site, costs, tiles
        self._rng = np.random.default_rng(1)
        self._cores = None if site.cores is None else simpy.Resource(env, site.cores)
        self._gateways = [simpy.Resource(env, site.inside) for _ in range(site.gateways)]
        self._python = [
            simpy.PriorityResource(env, site.gateway_cores) for _ in range(site.gateways)
        ]
        self._queues: list[simpy.Store] = [simpy.Store(env) for _ in range(site.tritons)]
        self._next_gateway = itertools.cycle(range(site.gateways))
        self._next_triton = itertools.cycle(self._queues)
        self._latencies: list[float] = []
        for queue in self._queues:
            for _ in range(site.instances):
                env.process(self._instance(queue))

    def finish(self) -> Outcome:
        self.environment.run()
        return Outcome(np.array(self._latencies), float(self.environment.now))

    def exposure(self) -> _Steps:
        env, costs = self.environment, self._costs
        started = env.now
        number = next(self._next_gateway)
        yield from self._busy(costs.client)
        with self._gateways[number].request() as place:
            yield place
            share = float(self._rng.choice(costs.spread))
            before = share * (costs.before + self._tiles * costs.tile)
            yield from self._busy(before, self._python[number])
            answers = [env.event() for _ in range(self._tiles)]
            for answer in answers:
                next(self._next_triton).put(answer)
            yield env.all_of(answers)
            yield from self._busy(share * costs.after, self._python[number])
            yield from self._busy(share * costs.database)
        self._latencies.append(env.now - started)

    def _instance(self, queue: simpy.Store) -> _Steps:
        while True:
            batch = [(yield queue.get())]
            while queue.items and len(batch) < self._site.batch:
                batch.append((yield queue.get()))
            seconds = self._rng.choice(self._costs.inference, len(batch)).sum()
            yield from self._busy(float(seconds) + self._costs.server * len(batch))
            for answer in batch:
                answer.succeed()

    def _busy(self, seconds: float, own: simpy.PriorityResource | None = None) -> _Steps:
        """Work for so long, in turns on what is shared."""
        if own is None and self._cores is None:
            yield self.environment.timeout(seconds)
            return
        while seconds > 0.0:
            with ExitStack() as held:
                if own is not None:
                    # Python's lock goes to whichever thread is woken first, not to the next one.
                    yield held.enter_context(own.request(self._rng.random()))
                if self._cores is not None:
                    yield held.enter_context(self._cores.request())
                yield self.environment.timeout(min(seconds, _QUANTUM))
            seconds -= _QUANTUM
