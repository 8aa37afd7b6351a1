"""Whether the service can do its work."""

import asyncio
import logging
import time

from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.errors import GatewayError
from astrotriton.gateway.observability.metrics import READY
from astrotriton.gateway.services.models import ModelService, Proof
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.migrate import current_revision, head
from astrotriton.gateway.storage.outbox import measure_waiting
from astrotriton.wire.health import Health, Part

_PATIENCE = 15.0
_SHORTEST_PAUSE = 2.0
_OLD = 60.0

_log = logging.getLogger(__name__)


class HealthService:
    """Asks the database for its schema, and every instance of the model for its golden tile.

    Triton's own readiness is not asked: it stays true with a broken model, and false without one.
    A server whose model answers wrong, or not at all, is left out as long as there is another.

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
        self._asking: asyncio.Task[Part] | None = None

    def drain(self) -> None:
        """Say from now on that no more requests should be sent here."""
        self._draining = True

    async def ready(self) -> Health:
        """What keeps the service from its work, if anything does."""
        database, model = await asyncio.gather(self._check_database(), self._check_model())
        parts = {"database": database, "model": model}
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
            parts[f"triton {proof.replica.address}"] = Part(
                ready=proof.good and not proof.replica.ejected, detail=proof.detail
            )
        parts["nats"] = Part(
            ready=self._outbox.fault is None, detail=self._outbox.fault or "events are published"
        )
        try:
            async with self._database.transaction() as connection:
                waiting, age = await measure_waiting(connection)
        except GatewayError as error:
            parts["outbox"] = Part(ready=False, detail=error.detail)
        else:
            parts["outbox"] = Part(
                ready=age < _OLD, detail=f"{waiting} events wait, the oldest for {age:.0f} s"
            )
        return Health(status=health.status, parts=parts)

    async def _check_database(self) -> Part:
        try:
            async with self._database.transaction() as connection:
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

    async def _check_model(self) -> Part:
        """The last probe, or a new one if that is old or a request has failed since."""
        if self._asking is None and self._is_stale():
            self._asked_at = time.monotonic()
            self._faults_seen = self._triton.faults
            self._asking = asyncio.create_task(self._ask_all(), name="probe")
        if self._asking is not None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    self._probe = await asyncio.shield(self._asking)
            except TimeoutError:
                return Part(ready=False, detail=f"no answer to the golden tile in {_PATIENCE:g} s")
            except Exception as error:  # whatever it is, the next one may do better
                _log.error("the probe failed", exc_info=error)
                self._probe = Part(ready=False, detail=f"the probe failed: {error!r}")
            self._asking = None
        return self._probe

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
                proof.replica.eject(max(3 * self._interval, 10.0), proof.detail)
        bad = [proof for proof in proofs if not proof.good]
        good = len(proofs) - len(bad)
        shown = next((proof for proof in proofs if proof.good), proofs[0])
        detail = shown.detail
        if len(proofs) > 1:
            detail += f"; {good} of {len(proofs)} servers do"
            detail += "".join(f"; {proof.replica.address}: {proof.detail}" for proof in bad)
        return Part(ready=good > 0, detail=detail)
