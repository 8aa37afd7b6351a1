"""What goes to MLflow: every minute and every validation, once, also after it was away."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.services import tracking
from astrotriton.gateway.services.tracking import TrackingService
from astrotriton.gateway.storage.performance import MeasuredMinute
from astrotriton.settings import ModelConfig
from astrotriton.wire.models import Challenger, RouteIn
from tests.unit.gateway.services.stand_ins import NAME, routing_service, running, until


class Mlflow:
    """Stands in for `MlflowRuns`."""

    def __init__(self) -> None:
        self.away = False
        self.params: dict[str, dict[str, Any]] = {}
        self.metrics: list[tuple[str, str, float, datetime, int]] = []
        self.validations: list[tuple[Any, str, dict[str, Any]]] = []
        self.canaries: list[tuple[Any, ...]] = []

    def served_run(self, name: str, version: int, params: dict[str, Any]) -> str:
        self._awake()
        self.params[run := f"run of {name}:{version}"] = dict(params)
        return run

    def log_metrics(self, run_id: str, metrics: list[tuple[str, float, datetime, int]]) -> None:
        self._awake()
        self.metrics += [(run_id, *one) for one in metrics]

    def log_validation(self, validation: Any, source: str, params: dict[str, Any]) -> str:
        self._awake()
        self.validations.append((validation, source, params))
        return f"run of {validation.id}"

    def log_canary(self, *what: Any) -> str:
        self._awake()
        self.canaries.append(what)
        return f"run of {what[0]}"

    def inputs(self, run_id: str) -> list[tuple[str, str]]:
        self._awake()
        return [("night", json.dumps({"uri": f"s3://nights/{run_id}"}))]

    def _awake(self) -> None:
        if self.away:
            raise DependencyError("mlflow", "it is away")

    def of(self, name: str) -> list[float]:
        return [value for _, metric, value, _, _ in self.metrics if metric == name]


@pytest.fixture
def mlflow() -> Mlflow:
    return Mlflow()


@pytest.fixture
def service(memory, models, mlflow, monkeypatch) -> TrackingService:
    monkeypatch.setattr(tracking, "_LONGEST_PAUSE", 0.01)
    return made(memory, models, mlflow)


def made(memory, models, runs) -> TrackingService:
    return TrackingService(
        runs=runs,
        interval=0.001,
        config=ModelConfig(),
        limits=GateLimits(),
        database=memory,
        models=models,
    )


def measure(memory, minutes_ago: int, requests: int = 2, version: int = 3, **errors: int) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    for name, count in {"request": requests, **errors}.items():
        sketch = Sketch()
        for _ in range(count):
            sketch.add(0.5)
        measured = MeasuredMinute(
            *(minute, version, name.replace("error_", "error.")),
            *(list(sketch.counts), list(sketch.counts.values()), sketch.total),
        )
        memory.measured[uuid4(), minute, version, measured.measure] = measured


async def test_every_minute_is_logged_once_with_its_step(service, memory, mlflow):
    measure(memory, 5, requests=2)
    measure(memory, 3, requests=4, error_busy=1)
    async with running(service.run()):
        await until(lambda: len(mlflow.of("runs")) == 2)
        measure(memory, 2, requests=8)
        await until(lambda: len(mlflow.of("runs")) == 3)
    assert mlflow.of("runs") == [2.0, 4.0, 8.0]
    assert mlflow.of("errors") == [0.0, 1.0, 0.0]
    assert mlflow.of("request_seconds_mean") == pytest.approx([0.5] * 3)
    steps = [step for _, name, _, _, step in mlflow.metrics if name == "runs"]
    assert [b - a for a, b in pairwise(steps)] == [2, 1]


async def test_the_minute_that_has_begun_waits(service, memory, mlflow):
    measure(memory, 0)
    measure(memory, 4)
    async with running(service.run()):
        await until(lambda: mlflow.of("runs"))
    assert len(mlflow.of("runs")) == 1


async def test_a_version_s_run_says_what_it_is(service, memory, models, mlflow):
    measure(memory, 5, version=3)
    measure(memory, 5, version=9)
    async with running(service.run()):
        await until(lambda: len(mlflow.of("runs")) == 2)
    known, unknown = mlflow.params[f"run of {NAME}:3"], mlflow.params[f"run of {NAME}:9"]
    assert known["card_digest"] == (await models.get(3)).card_digest
    # Its files cannot be read any more: what is known is logged all the same.
    assert set(unknown) == {"version", "confidence_threshold", "batch_size"}


async def test_every_step_of_a_canary_is_logged_once_in_order(
    service, memory, models, mlflow, outbox
):
    mlflow.away = True
    routing = routing_service(memory, models, outbox)
    trial = Challenger(version=4, mode="canary", fraction=1.0, automatic=True)
    await routing.change(NAME, RouteIn(champion=3, challenger=trial))
    await routing.change(NAME, RouteIn(champion=3))
    async with running(service.run()):
        mlflow.away = False
        await until(lambda: len(memory.steps_logged) == 2)
    (canary_id,) = memory.canaries
    assert [(*what, step.what) for *what, step in mlflow.canaries] == [
        (str(canary_id), NAME, (3, 4), 0, "began"),
        (str(canary_id), NAME, (3, 4), 1, "ended"),
    ]


async def test_while_mlflow_is_away_minutes_wait(service, memory, mlflow):
    mlflow.away = True
    measure(memory, 6)
    async with running(service.run()):
        measure(memory, 4)
        mlflow.away = False
        await until(lambda: len(mlflow.of("runs")) == 2)
    assert len({step for *_, step in mlflow.metrics}) == 2


async def test_many_minutes_are_logged_in_parts(service, memory, mlflow, monkeypatch):
    monkeypatch.setattr(tracking, "_MOST_MINUTES", 3)
    for ago in range(2, 12):
        measure(memory, ago)
    async with running(service.run()):
        await until(lambda: len(mlflow.of("runs")) == 10)
    steps = [step for _, name, _, _, step in mlflow.metrics if name == "runs"]
    assert steps == sorted(set(steps))


async def test_every_validation_is_logged_once(service, memory, mlflow):
    memory.validations = [SimpleNamespace(id=uuid4(), source=f"s3://{i}") for i in range(3)]
    async with running(service.run()):
        await until(lambda: len(memory.logged) == 3)
    assert [one.id for one, _, _ in mlflow.validations] == [one.id for one in memory.validations]
    _, source, params = mlflow.validations[0]
    assert source == "s3://0"
    assert params["limit_max_ece"] == GateLimits().max_ece


async def test_a_data_set_is_found_by_its_run(service, mlflow):
    assert await service.find_input("abc", "night") == "s3://nights/abc"
    with pytest.raises(InputError):
        await service.find_input("abc", "other")
    mlflow.away = True
    with pytest.raises(DependencyError):
        await service.find_input("abc", "night")


async def test_without_mlflow_nothing_is_logged(memory, models):
    service = made(memory, models, None)
    await service.run()
    with pytest.raises(DependencyError, match="ASTROTRITON_MLFLOW_URI"):
        await service.find_input("abc", "night")
