"""Whether the service can do its work."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from astrotriton.gateway.backends.replicas import Replica
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.errors import GatewayError
from astrotriton.gateway.observability.metrics import READY
from astrotriton.gateway.periodic import Shared
from astrotriton.gateway.services.models import ModelService, Proof
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.gateway.storage.database import DEPENDENCY, Database
from astrotriton.gateway.storage.migrate import current_revision, head
from astrotriton.gateway.storage.outbox import measure_waiting
from astrotriton.wire.health import Health, Part

# Seconds after which a part that says nothing is taken to hang.
_SILENCE = 3.0
# Seconds that a golden tile may take, behind others' tiles, and a connection to become free, while
# runs hold them all; meanwhile the answer before counts.
_PATIENCE = 15.0
# Seconds for which it counts that PostgreSQL answers those who connect.
_CONNECTING = 1.0
_SHORTEST_PAUSE = 2.0
_OLD = 60.0
# Seconds that a server is left out for, at least.
_LEFT_OUT = 10.0

_log = logging.getLogger(__name__)


class HealthService:
    """Asks the database for its schema, and every instance of the model for its golden tile.

    Triton's own readiness is not asked: it stays true with a broken model, and false without one.
    A server whose model answers wrong, or not at all, is left out as long as there is another.

    An answer to a golden tile counts for a while. Each time, Triton and PostgreSQL must give a sign
    of life within 3 s besides, so that one that hangs is noticed at once.

    Parameters
    ----------
    database, models, routing, triton, outbox
        What a run needs.
    interval
        Seconds for which an answer to the golden tile counts, unless a request fails meanwhile.
    """

    def __init__(
        self,
        *,
        database: Database,
        models: ModelService,
        routing: RoutingService,
        triton: Triton,
        outbox: OutboxPublisher,
        interval: float,
    ) -> None:
        self._database = database
        self._models = models
        self._routing = routing
        self._triton = triton
        self._outbox = outbox
        self._interval = interval
        self._draining = False
        self._proofs: list[Proof] = []
        self._probe = Part(ready=False, detail="the probe has not answered yet")
        self._asked_at: float | None = None
        self._faults_seen = 0
        self._silent: dict[Replica, str] = {}
        self._schema = Part(ready=False, detail="PostgreSQL has not answered yet")
        self._schema_asked_at = 0.0
        self._acquired = False
        self._connected_at: float | None = None
        self._asking_model = Shared(self._ask_model, "probe")
        self._greeting = Shared(lambda: triton.find_silent(_SILENCE), "signs of life")
        self._asking_schema = Shared(self._ask_schema, "schema")
        self._connecting = Shared(self._connect, "connecting")
        self._asking_outbox = Shared(self._ask_outbox, "outbox")

    def drain(self) -> None:
        """Say from now on that no more requests should be sent here."""
        self._draining = True

    async def aclose(self) -> None:
        """End what is asked for still, before what it asks is closed."""
        asked: tuple[Shared[Any], ...] = (
            self._asking_model,
            self._greeting,
            self._asking_schema,
            self._connecting,
            self._asking_outbox,
        )
        await asyncio.gather(*(one.aclose() for one in asked))

    async def ready(self) -> Health:
        """What keeps the service from its work, if anything does."""
        database, _ = await asyncio.gather(self._check_database(), self._find_silent())
        # The probe needs both, and whoever asks must not wait for what hangs.
        patience = None if database.ready and not self._silent else 0.0
        parts = {"database": database, "model": self._judge(await self._check_probe(patience))}
        if self._draining:
            parts["gateway"] = Part(ready=False, detail="it is shutting down")
        ready = all(part.ready for part in parts.values())
        READY.set(ready)
        return Health(status="ready" if ready else "not ready", parts=parts)

    async def dependencies(self) -> Health:
        """Every part, those that the service can work without too."""
        health = await self.ready()
        parts = dict(health.parts)
        for proof in self._proofs:
            replica = proof.replica
            parts[f"triton {replica.address}"] = Part(
                ready=proof.good and not replica.ejected and replica not in self._silent,
                detail=self._silent.get(replica, proof.detail),
            )
        parts["nats"] = Part(
            ready=self._outbox.fault is None, detail=self._outbox.fault or "events are published"
        )
        parts["outbox"] = await _heard(self._asking_outbox)
        return Health(status=health.status, parts=parts)

    async def _ask_outbox(self) -> Part:
        try:
            async with self._database.transaction() as connection:
                waiting, age = await measure_waiting(connection)
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        return Part(ready=age < _OLD, detail=f"{waiting} events wait, the oldest for {age:.0f} s")

    async def _check_database(self) -> Part:
        """What a connection of the pool says, unless those who connect now are not answered."""
        schema, connecting = await asyncio.gather(self._check_schema(), self._check_connecting())
        return schema if connecting is None or not schema.ready else connecting

    async def _check_schema(self) -> Part:
        """What a connection of the pool says; while none is free, what one said before."""
        if not self._asking_schema.under_way:
            self._schema_asked_at = time.monotonic()
        try:
            self._schema = await self._asking_schema.get(_SILENCE)
        except TimeoutError:
            if self._acquired or not self._schema.ready:
                return _unheard()
            if time.monotonic() - self._schema_asked_at >= _PATIENCE:
                detail = f"{DEPENDENCY}: no connection of the pool is free within {_PATIENCE:g} s"
                return Part(ready=False, detail=detail)
        return self._schema

    async def _ask_schema(self) -> Part:
        self._acquired = False
        try:
            # Not a transaction from the start, for one begins by asking PostgreSQL.
            async with self._database.connection() as connection:
                self._acquired = True
                async with connection.transaction():
                    revision = await current_revision(connection)
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        # One that is newer was brought by the gateways which are about to take over; migrations add
        # to what there is, so that these here work on until then.
        if revision is None or revision < head():
            return Part(
                ready=False,
                detail=f"schema {revision}, expected {head()}: run"
                " `python -m astrotriton.gateway migrate`",
            )
        return Part(ready=True, detail=f"schema {revision}")

    async def _check_connecting(self) -> Part | None:
        """What is wrong with new connections; anybody may ask for this, so that it is rationed."""
        now = time.monotonic()
        if self._connected_at is not None and now - self._connected_at < _CONNECTING:
            return None
        return await self._connecting.get()

    async def _connect(self) -> Part | None:
        try:
            await self._database.check_connecting(_SILENCE)
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        self._connected_at = time.monotonic()
        return None

    def _judge(self, probe: Part) -> Part:
        """What a probe says of the model, unless every server that was right is silent now."""
        if not self._silent:
            return probe
        heard = [proof for proof in self._proofs if proof.replica not in self._silent]
        for replica, fault in self._silent.items():
            if heard and not replica.ejected:
                replica.eject(_LEFT_OUT, fault)
        faults = "; ".join(f"{replica.address}: {one}" for replica, one in self._silent.items())
        if good := [proof for proof in heard if proof.good]:
            count = f"{len(good)} of {len(self._proofs)} servers do"
            return Part(ready=probe.ready, detail=f"{good[0].detail}; {count}; {faults}")
        return Part(ready=False, detail=faults)

    async def _find_silent(self) -> None:
        # A second of it is for their names. If it takes longer still, those that were silent are.
        with suppress(TimeoutError):
            self._silent = await self._greeting.get(_SILENCE + 1.5)

    async def _check_probe(self, patience: float | None) -> Part:
        """The last probe, or a new one if that is old or a request has failed since.

        Parameters
        ----------
        patience
            Seconds to wait for a new one; None: as long as it may take, or for a short while where
            the one before was right.
        """
        if not self._asking_model.under_way:
            if not self._is_stale():
                return self._probe
            self._asked_at = time.monotonic()
            self._faults_seen = self._triton.faults
        if patience is None:
            patience = _SILENCE if self._probe.ready else _PATIENCE
        try:
            await self._asking_model.get(patience)
        except TimeoutError:
            # It may wait behind the tiles of many exposures, and the one before was right; or for
            # a server that is silent, and then those before say what becomes of the others.
            waited = time.monotonic() - (self._asked_at or 0.0)
            if waited >= _PATIENCE and not self._silent:
                detail = f"no answer to the golden tile in {_PATIENCE:g} s"
                return Part(ready=False, detail=detail)
        return self._probe

    async def _ask_model(self) -> None:
        try:
            self._probe = await self._ask_all()
        except Exception as error:  # whatever it is, the next one may do better
            _log.error("the probe failed", exc_info=error)
            self._probe = Part(ready=False, detail=f"the probe failed: {error!r}")

    def _is_stale(self) -> bool:
        if self._asked_at is None:
            return True
        age = time.monotonic() - self._asked_at
        fault = not self._probe.ready or self._triton.faults != self._faults_seen
        return age >= (min(self._interval, _SHORTEST_PAUSE) if fault else self._interval)

    async def _ask_all(self) -> Part:
        try:
            choice = await self._routing.choose("champion", "")
            proofs = await self._models.prove(await self._models.get(choice.version))
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        self._proofs = proofs
        for proof in proofs:
            if proof.good:
                proof.replica.admit()
            else:
                proof.replica.eject(max(3 * self._interval, _LEFT_OUT), proof.detail)
        bad = [proof for proof in proofs if not proof.good]
        good = len(proofs) - len(bad)
        shown = next((proof for proof in proofs if proof.good), proofs[0])
        detail = shown.detail
        if len(proofs) > 1:
            detail += f"; {good} of {len(proofs)} servers do"
            detail += "".join(f"; {proof.replica.address}: {proof.detail}" for proof in bad)
        return Part(ready=good > 0, detail=detail)


async def _heard(asking: Shared[Part]) -> Part:
    """What PostgreSQL says, unless it says nothing for too long."""
    try:
        return await asking.get(_SILENCE)
    except TimeoutError:
        return _unheard()


def _unheard() -> Part:
    return Part(ready=False, detail=f"{DEPENDENCY}: no answer within {_SILENCE:g} s")
