"""What was measured and validated, on its way to MLflow."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.gateway.backends.mlflow import MlflowRuns
from astrotriton.gateway.errors import DependencyError, GatewayError
from astrotriton.gateway.observability.metrics import SAMPLES_DROPPED
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.datasets import source_of
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.storage.canaries import find_unlogged_step, set_step_logged
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.performance import find_measured
from astrotriton.gateway.storage.tracking import (
    ServedRun,
    find_minutes,
    find_served_run,
    hold_tracking,
    measured_versions,
    set_served_run,
)
from astrotriton.gateway.storage.validations import find_result, find_unlogged, set_logged
from astrotriton.settings import ModelConfig

#: How long what MLflow has not got yet waits for it.
WAITING = timedelta(days=7)

_MOST_MINUTES = 120
_LONGEST_PAUSE = 300.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class TrackingService:
    """Logs every minute of every version, every validation, and every step of canaries, once.

    What is to be logged waits in PostgreSQL, where all gateways measure; one of them logs it. So
    nothing is lost while MLflow is away, as long as that is less than a week, and nobody waits for
    it. MLflow has a thread of its own, so that one that hangs takes none from the runs.

    Parameters
    ----------
    runs
        MLflow; None: nothing is logged.
    interval
        Seconds between looks at what is to be logged.
    config, limits
        Parameters of inference, and of validations.
    database, models
        Where figures are, and the versions' cards.
    """

    def __init__(
        self,
        *,
        runs: MlflowRuns | None,
        interval: float,
        config: ModelConfig,
        limits: GateLimits,
        database: Database,
        models: ModelService,
    ) -> None:
        self._runs = runs
        self._interval = interval
        self._config = config
        self._limits = limits
        self._database = database
        self._models = models
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")

    async def find_input(self, run_id: str, name: str) -> str:
        """The ``s3://`` address of a data set that a run has as an input.

        Raises
        ------
        InputError
            If it has none of that name, or it lies elsewhere.
        DependencyError
            If there is no MLflow, it is away, or it has no such run.
        """
        if self._runs is None:
            raise DependencyError("mlflow", "ASTROTRITON_MLFLOW_URI is not set")
        runs = self._runs
        return source_of(await self._ask(lambda: runs.inputs(run_id)), run_id, name)

    async def run(self) -> None:
        """Log until cancelled."""
        if self._runs is None:
            return
        runs = self._runs

        async def log_all() -> None:
            while await self._log_canary(runs):
                pass
            await self._log_minutes(runs)
            while await self._log_validation(runs):
                pass

        longest = max(_LONGEST_PAUSE, self._interval)
        try:
            await repeat(
                log_all,
                self._interval,
                what="MLflow gets nothing",
                log=_log,
                backoff=(min(2 * self._interval, longest), longest),
            )
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _log_minutes(self, runs: MlflowRuns) -> None:
        name = self._models.name
        async with self._database.transaction() as connection:
            versions = await measured_versions(connection, name, datetime.now(UTC) - WAITING)
        for version in versions:
            while await self._log_minutes_of(runs, version):
                pass

    async def _log_minutes_of(self, runs: MlflowRuns, version: int) -> bool:
        """Log the oldest minutes that are over; whether there may be more."""
        name = self._models.name
        now = datetime.now(UTC)
        # Other gateways store their minutes a few seconds late.
        until = (now - timedelta(seconds=15)).replace(second=0, microsecond=0)
        oldest = now - WAITING
        async with self._database.transaction() as connection:
            if not await hold_tracking(connection, name, version):
                return False
            served = await find_served_run(connection, name, version)
            if served is None:
                params = await self._params(version)
                run_id = await self._ask(lambda: runs.served_run(name, version, params))
                served = ServedRun(run_id, oldest)
            elif served.logged_until < oldest:
                SAMPLES_DROPPED.labels("mlflow").inc()
            since = max(served.logged_until, oldest)
            minutes = await find_minutes(connection, name, version, since, until, _MOST_MINUTES)
            metrics = []
            for minute in minutes:
                after = minute + timedelta(minutes=1)
                measured = await find_measured(connection, name, version, minute, after)
                step = round(minute.timestamp() / 60)
                metrics += [(key, value, minute, step) for key, value in _metrics(measured)]
            if metrics:
                run_id = served.run_id
                await self._ask(lambda: runs.log_metrics(run_id, metrics))
            reached = minutes[-1] + timedelta(minutes=1) if minutes else since
            await set_served_run(connection, name, version, ServedRun(served.run_id, reached))
        return len(minutes) == _MOST_MINUTES

    async def _log_validation(self, runs: MlflowRuns) -> bool:
        """Log the oldest validation that MLflow has not got; whether there was one."""
        since = datetime.now(UTC) - WAITING
        async with self._database.transaction() as connection:
            found = await find_unlogged(connection, self._models.name, since)
            if found is None:
                return False
            result = await find_result(connection, found.id)
            params = {f"limit_{k}": v for k, v in self._limits.model_dump().items()}
            run_id = await self._ask(lambda: runs.log_validation(found, result.source, params))
            await set_logged(connection, found.id, run_id)
        return True

    async def _log_canary(self, runs: MlflowRuns) -> bool:
        """Log the oldest step of a canary that MLflow has not got; whether there was one."""
        since = datetime.now(UTC) - WAITING
        async with self._database.transaction() as connection:
            # In order, so one gateway at a time; no version is 0.
            if not await hold_tracking(connection, self._models.name, 0):
                return False
            found = await find_unlogged_step(connection, self._models.name, since)
            if found is None:
                return False
            run_id = await self._ask(
                lambda: runs.log_canary(
                    str(found.canary_id),
                    found.name,
                    (found.champion, found.challenger),
                    found.number,
                    found.step,
                )
            )
            await set_step_logged(connection, found.id, run_id)
        return True

    async def _params(self, version: int) -> dict[str, object]:
        params: dict[str, object] = {
            "version": version,
            "confidence_threshold": self._config.confidence_threshold,
            "batch_size": self._config.batch_size,
        }
        try:
            model = await self._models.get(version)
        except GatewayError:
            return params
        return params | _of_card(model)

    async def _ask(self, do: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def _of_card(model: ServedModel) -> dict[str, object]:
    card = model.card
    return {
        "digest": model.ref.digest,
        "card_digest": model.card_digest,
        "tile_size": card.tile_size,
        **card.own_fields,
        "nms_radius": card.nms_radius,
        "trained_at": card.trained_at.isoformat(),
    }


def _metrics(measured: dict[str, Sketch]) -> list[tuple[str, float]]:
    """What a minute comes down to, by name."""
    requests = measured.get("request", Sketch())
    errors = sum(s.count for name, s in measured.items() if name.startswith("error."))
    found: dict[str, float | None] = {
        "runs": float(requests.count),
        "errors": float(errors),
        "tiles": measured.get("tiles", Sketch()).total,
        "request_seconds_mean": requests.mean,
        "request_seconds_p50": requests.quantile(0.5),
        "request_seconds_p95": requests.quantile(0.95),
        "request_seconds_p99": requests.quantile(0.99),
        "infer_seconds_mean": measured.get("infer", Sketch()).mean,
        "confidence_mean": measured.get("confidence", Sketch()).mean,
    }
    return [(name, value) for name, value in found.items() if value is not None]
