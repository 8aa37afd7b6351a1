"""Whether the service can do its work."""

import asyncio
import time

import numpy as np

from gateway.errors import GatewayError
from gateway.schemas import Health, Part
from gateway.services.models import ModelService
from gateway.storage.database import Database
from gateway.storage.migrate import current_revision, head
from gateway.triton import Triton

# Largest difference between what Triton makes of the golden tile and what the network made of it.
TOLERANCE = 1e-4


class HealthService:
    """Asks the database for its schema and the model for its golden tile.

    Triton's own readiness is not asked: it stays true with a broken model, and false without one.

    Parameters
    ----------
    database, models, triton
        What a run needs.
    interval
        Seconds for which an answer to the golden tile counts.
    """

    def __init__(
        self, *, database: Database, models: ModelService, triton: Triton, interval: float
    ) -> None:
        self._database = database
        self._models = models
        self._triton = triton
        self._interval = interval
        self._lock = asyncio.Lock()
        self._canary: Part | None = None
        self._canary_until = 0.0

    async def ready(self) -> Health:
        """What keeps the service from its work, if anything does."""
        database, model = await asyncio.gather(self._check_database(), self._check_model())
        parts = {"database": database, "model": model}
        ready = all(part.ready for part in parts.values())
        return Health(status="ready" if ready else "not ready", parts=parts)

    async def _check_database(self) -> Part:
        try:
            async with self._database.transaction() as connection:
                revision = await current_revision(connection)
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        if revision != head():
            return Part(
                ready=False,
                detail=f"schema {revision}, expected {head()}: run `python -m gateway migrate`",
            )
        return Part(ready=True, detail=f"schema {revision}")

    async def _check_model(self) -> Part:
        async with self._lock:
            if self._canary is None or time.monotonic() >= self._canary_until:
                self._canary = await self._send_golden_tile()
                self._canary_until = time.monotonic() + self._interval
            return self._canary

    async def _send_golden_tile(self) -> Part:
        try:
            model = await self._models.resolve()
            answer = await self._triton.infer(model.card, model.ref.version, model.golden_image)
        except GatewayError as error:
            return Part(ready=False, detail=error.detail)
        name = f"{model.ref.name} version {model.ref.version}"
        difference = float(np.max(np.abs(answer - model.golden_probability)))
        if difference > TOLERANCE:
            return Part(
                ready=False,
                detail=f"{name} answers the golden tile wrong, by {difference:.2g}; "
                f"at most {TOLERANCE:g} is allowed",
            )
        return Part(ready=True, detail=f"{name} answers the golden tile within {difference:.2g}")
