"""Looks at the canary that is under way, and decides what becomes of it."""

import logging
from datetime import UTC, datetime
from typing import NoReturn

import msgspec

from astrotriton.detection.quality.canary import Decision, Evidence, decide
from astrotriton.gateway.errors import GatewayError, NotFoundError
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.canary.book import CanaryBook, tests_of
from astrotriton.gateway.services.canary.journal import CanaryJournal, Watched
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.gateway.storage.canaries import (
    Kept,
    Seen,
    StoredCanary,
    find_newest,
    find_running,
    hold_running,
    list_steps,
    set_seen,
    take_labelled,
    take_seen,
)
from astrotriton.gateway.storage.database import Connection, Database
from astrotriton.gateway.storage.routes import find_route
from astrotriton.wire.canary import Canary
from astrotriton.wire.models import Challenger, RouteIn

# Runs of the champion that wait for one of the challenger to be compared with.
_CHAMPIONS = 200

_log = logging.getLogger(__name__)


class CanaryService:
    """Takes a canary from step to step, until its challenger is the champion or is sent back.

    Every gateway looks; one at a time has the canary, for the length of a transaction. A gateway
    that is killed in it leaves everything as it was, and another decides.

    Parameters
    ----------
    name
        The model's.
    interval
        Seconds between looks.
    database, routing, journal, book, outbox
        What a look needs.
    """

    def __init__(
        self,
        *,
        name: str,
        interval: float,
        database: Database,
        routing: RoutingService,
        journal: CanaryJournal,
        book: CanaryBook,
        outbox: OutboxPublisher,
    ) -> None:
        self._name = name
        self._interval = interval
        self._database = database
        self._routing = routing
        self._journal = journal
        self._book = book
        self._outbox = outbox

    async def get(self, name: str) -> Canary:
        """The last canary of the model, under way or over.

        Raises
        ------
        NotFoundError
            If the gateway serves another model, or there was none.
        """
        async with self._database.transaction() as connection:
            found = await find_newest(connection, name) if name == self._name else None
            if found is None:
                raise NotFoundError(f"no canary of {name!r} was to end by itself")
            steps = await list_steps(connection, found.id)
        running, kept = found.status == "running", found.kept
        return Canary(
            id=found.id,
            name=found.name,
            champion=found.champion,
            challenger=found.challenger,
            status=found.status,
            step=found.step + 1,
            of=len(kept.plan.fractions),
            fraction=found.fraction if running else 1.0 if found.status == "promoted" else 0.0,
            reason=found.reason,
            false_alarms=kept.tolerances.false_alarms,
            pairs=kept.evidence.pairs,
            runs=kept.evidence.runs,
            tests=tests_of(kept),
            began_at=found.began_at,
            finished_at=found.finished_at,
            steps=steps,
        )

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        await repeat(
            self.look,
            self._interval,
            what="the canary waits",
            log=_log,
            at_once=True,
            foreseen=(GatewayError,),
        )

    async def look(self) -> None:
        """Count what was seen, and go on, go back or wait.

        Raises
        ------
        GatewayError
            If PostgreSQL is away, or a version does not prove itself; a later look decides then.
        """
        async with self._database.connection() as connection:
            running = await find_running(connection, self._name)
        self._journal.watch(running and Watched(running.id, running.champion, running.challenger))
        await self._journal.flush()
        if running is None:
            return
        async with self._database.transaction() as connection:
            canary = await hold_running(connection, self._name, wait=False)
            if canary is None:
                return  # Another gateway has it.
            canary, decision = await self._count(connection, canary)
            if not await self._is_routed(connection, canary):
                await self._book.end(connection, canary, "ended", "the route is another one")
                return
            if decision.what == "send-back":
                await self._book.end(connection, canary, "sent-back", decision.reason)
                await self._routing.write(connection, RouteIn(champion=canary.champion))
        if decision.what == "go-on":
            # Triton is asked outside of any transaction: it may take its time.
            await self._routing.prove("challenger.version", canary.challenger)
            await self._go_on(canary, decision.reason)
        if decision.what != "wait":
            _log.info(
                "%s version %d, canary at %.0f %%: %s, %s",
                *(canary.name, canary.challenger, 100 * canary.fraction),
                *(decision.what, decision.reason),
            )
            self._routing.forget()
            self._outbox.wake()

    async def _go_on(self, seen: StoredCanary, reason: str) -> None:
        async with self._database.transaction() as connection:
            canary = await hold_running(connection, self._name)
            if canary is None or (canary.id, canary.step) != (seen.id, seen.step):
                return  # Another gateway was faster, or somebody has changed the route.
            if canary.step + 1 == len(canary.kept.plan.fractions):
                await self._book.end(connection, canary, "promoted", reason)
                await self._routing.write(connection, RouteIn(champion=canary.challenger))
                return
            fraction = await self._book.go_on(connection, canary, reason)
            trial = Challenger(
                version=canary.challenger, mode="canary", fraction=fraction, automatic=True
            )
            await self._routing.write(
                connection, RouteIn(champion=canary.champion, challenger=trial)
            )

    async def _count(
        self, connection: Connection, canary: StoredCanary
    ) -> tuple[StoredCanary, Decision]:
        kept = _counted(canary, await take_seen(connection, canary.id))
        evidence = kept.evidence
        for champion, challenger, real in await take_labelled(connection, canary.id):
            evidence = evidence.with_label(champion, challenger, real=real)
        kept = msgspec.structs.replace(kept, evidence=evidence)
        seconds = (datetime.now(UTC) - canary.step_began_at).total_seconds()
        decision = decide(evidence, kept.before, seconds, kept.plan, kept.tolerances)
        await set_seen(connection, canary.id, kept, decision.reason)
        return canary._replace(kept=kept, reason=decision.reason), decision

    async def _is_routed(self, connection: Connection, canary: StoredCanary) -> bool:
        """Whether the route is the canary's; a gateway that knows of none may have changed it."""
        route = await find_route(connection, canary.name)
        return (
            route is not None
            and route.champion == canary.champion
            and route.challenger is not None
            and route.challenger.mode == "canary"
            and (route.challenger.version, route.challenger.fraction)
            == (canary.challenger, canary.fraction)
        )


def _counted(canary: StoredCanary, seen: list[Seen]) -> Kept:
    """With what was seen since. A run of the challenger is compared with the champion's before it.

    Each of the champion's is compared with one alone, so that one that was slow by chance counts
    once.
    """
    kept = canary.kept
    evidence: Evidence = kept.evidence
    champions = list(kept.champions)
    for one in seen:
        if one.pair is not None:
            evidence = evidence.with_pair(one.pair)
        elif one.version == canary.champion:
            if one.seconds is not None:
                champions.append(one.seconds)
        elif one.seconds is None:
            evidence = evidence.with_run(failed=True, slower=None)
        else:
            slower = None
            if champions:
                slower = one.seconds > kept.tolerances.latency_ratio * champions.pop()
            evidence = evidence.with_run(failed=False, slower=slower)
    return msgspec.structs.replace(kept, evidence=evidence, champions=champions[-_CHAMPIONS:])
