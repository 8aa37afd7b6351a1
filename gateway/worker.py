"""What answers nobody and needs heavy packages: reports on drift, and figures for MLflow.

A gateway does both itself unless ``ASTROTRITON_WORKER`` is ``outside``. Several workers share the
work as several gateways do: what is to be done lies in PostgreSQL, and one of them takes it.
"""

import asyncio
import importlib.util
import logging
import logging.config
import signal

from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.context import open_models, open_objects, open_tracking
from astrotriton.gateway.observability.logs import logging_config
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.drift.baselines import Baselines
from astrotriton.gateway.services.drift.reports import Reports
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.database import open_database
from astrotriton.settings import GateSettings, ModelConfig

_PAUSE = 5.0

_log = logging.getLogger(__name__)


class WorkerError(Exception):
    """The worker has nothing to do, or nothing to do it with."""


def work(settings: GatewaySettings, config: ModelConfig) -> None:
    """Make reports and log to MLflow until SIGTERM or SIGINT.

    Raises
    ------
    WorkerError
        If neither ``report_url`` nor ``mlflow_uri`` is set, or a package for them is missing.
    """
    if settings.report_url is None and settings.mlflow_uri is None:
        raise WorkerError("set ASTROTRITON_REPORT_URL or ASTROTRITON_MLFLOW_URI")
    for wanted, package, extra in (
        (settings.report_url, "evidently", "drift"),
        (settings.mlflow_uri, "mlflow", "tracking"),
        (settings.mlflow_uri, "matplotlib", "tracking"),
    ):
        if wanted is not None and importlib.util.find_spec(package) is None:
            raise WorkerError(f"needs {package}: pip install 'astrotriton[server,{extra}]'")
    logging.config.dictConfig(logging_config(settings.log_level))
    asyncio.run(_until_told(settings, config))


async def _until_told(settings: GatewaySettings, config: ModelConfig) -> None:
    working = asyncio.create_task(_work(settings, config))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    await asyncio.wait([working])
    if not working.cancelled():
        working.result()


async def _work(settings: GatewaySettings, config: ModelConfig) -> None:
    async with (
        open_database(settings) as database,
        # Versions are looked up in the repository; no tile is ever sent.
        Triton(settings.triton_grpc, timeout=settings.triton_timeout) as triton,
        asyncio.TaskGroup() as tasks,
    ):
        models = open_models(settings, config, triton)
        tracking = open_tracking(settings, config, GateSettings(), database, models)
        reports = Reports(
            settings.report_url,
            open_objects(settings, settings.report_buckets),
            database,
            Baselines(database, models),
        )

        async def make_reports() -> None:
            await reports.make_next(models.name)

        tasks.create_task(tracking.run())
        if settings.report_url is not None:
            tasks.create_task(
                repeat(make_reports, _PAUSE, what="reports wait", log=_log, at_once=True)
            )
        _log.info("the worker of %s works", models.name)
