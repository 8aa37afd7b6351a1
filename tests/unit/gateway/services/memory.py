"""The storage of the services in memory: what PostgreSQL holds, as far as services ask for it.

`keep_in_memory` puts these functions in the place of those of `astrotriton.gateway.storage`
wherever a service has imported one, so that a service's own code runs as it is. What SQL does
better than Python, such as a cone, is not played here: the integration tests ask the real
PostgreSQL for it.
"""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pytest
from scipy.special import logit

from astrotriton.detection.confidence.prevalence import counted
from astrotriton.detection.image.overviews import Overview
from astrotriton.detection.quality.drift import FALSE_ALARMS
from astrotriton.gateway import services
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.observability.sketches import Sketch
from astrotriton.gateway.storage.agreement import KeptSource
from astrotriton.gateway.storage.canaries import Kept, Seen, Source, StoredCanary, Unlogged
from astrotriton.gateway.storage.detections import GivenLabel, KeptCutout, stored_detection
from astrotriton.gateway.storage.disputes import Dispute, OtherVerdict, Verdict
from astrotriton.gateway.storage.drift import Accepted, Found, Sample
from astrotriton.gateway.storage.migrate import head
from astrotriton.gateway.storage.outbox import Published, Waiting
from astrotriton.gateway.storage.performance import Counted, MeasuredMinute
from astrotriton.gateway.storage.prevalence import RecentRun
from astrotriton.gateway.storage.runs import RunSummary
from astrotriton.gateway.storage.shadow import Comparison
from astrotriton.gateway.storage.tracking import ServedRun
from astrotriton.gateway.storage.validations import Result
from astrotriton.wire.canary import CanaryStep
from astrotriton.wire.drift import DriftCheck, Report
from astrotriton.wire.exposures import COMPANIONS
from astrotriton.wire.fields import Window
from astrotriton.wire.models import ModelRef, Route, RouteIn, VersionRef
from astrotriton.wire.problems import Problem
from astrotriton.wire.runs import InferResponse
from astrotriton.wire.validation import Validation

_STORAGE = "astrotriton.gateway.storage."
_STAND_INS: dict[str, Callable[..., Any]] = {}


class Event(NamedTuple):
    """An event in the outbox."""

    id: UUID
    subject: str
    content: Any


@dataclass
class Memory:
    """Stands in for `Database` and for a connection; a transaction that fails leaves no trace."""

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    canaries: dict[UUID, StoredCanary] = field(default_factory=dict)
    canary_steps: list[tuple[UUID, CanaryStep]] = field(default_factory=list)
    canary_seen: list[tuple[UUID, Seen]] = field(default_factory=list)
    canary_sources: dict[UUID, Source] = field(default_factory=dict)
    steps_logged: list[int] = field(default_factory=list)
    runs: dict[UUID, InferResponse] = field(default_factory=dict)
    callers: dict[UUID, str] = field(default_factory=dict)
    features: dict[UUID, list[float] | None] = field(default_factory=dict)
    cutouts: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[UUID, Overview] = field(default_factory=dict)
    disputes: dict[tuple[UUID, UUID], Dispute] = field(default_factory=dict)
    labels: list[tuple[UUID, GivenLabel]] = field(default_factory=list)
    jobs: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    idempotency: dict[tuple[str, str], tuple[str, UUID]] = field(default_factory=dict)
    outbox: list[Event] = field(default_factory=list)
    published: dict[UUID, tuple[datetime, int]] = field(default_factory=dict)
    server_settings: dict[str, str] = field(default_factory=dict)
    comparisons: list[tuple[UUID, UUID, Comparison]] = field(default_factory=list)
    #: What a version made in the shadow of another, by the two.
    shadowed: dict[tuple[int, int], list[Comparison]] = field(default_factory=dict)
    #: Runs of two versions on the same exposure, and the sources that each has scored.
    twins: list[tuple[UUID, UUID]] = field(default_factory=list)
    kept: dict[UUID, list[KeptSource]] = field(default_factory=dict)
    measured: dict[tuple[UUID, datetime, int, str], MeasuredMinute] = field(default_factory=dict)
    counted: list[tuple[int, Counted]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    baselines: dict[int, Accepted] = field(default_factory=dict)
    checks: dict[UUID, DriftCheck] = field(default_factory=dict)
    labelled: list[tuple[float, bool, str]] = field(default_factory=list)
    served: dict[int, ServedRun] = field(default_factory=dict)
    under_way: dict[UUID, Validation] = field(default_factory=dict)
    validations: list[Any] = field(default_factory=list)
    logged: dict[UUID, str] = field(default_factory=dict)
    revision: str | None = field(default_factory=head)
    away: bool = False
    deaf: bool = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Memory"]:
        if self.away:
            raise DependencyError("postgresql", "it is away")
        before = {one.name: getattr(self, one.name) for one in fields(self)}
        kept = {
            name: value.copy() if isinstance(value, dict | list | set) else value
            for name, value in before.items()
        }
        try:
            yield self
        except BaseException:
            for name, value in kept.items():
                setattr(self, name, value)
            raise

    connection = transaction

    async def check_connecting(self, seconds: float) -> None:
        if self.deaf:
            raise DependencyError("postgresql", "nobody who connects is answered")

    def events(self, subject: str) -> list[Any]:
        """The data of the events of a kind."""
        return [one.content["data"] for one in self.outbox if one.subject == subject]

    def model_of(self, run: InferResponse) -> UUID:
        """The id of the model that scored a run."""
        (found,) = (i for i, m in self.models.items() if m["version"] == run.model.version)
        return found

    def row(self, detection_id: UUID) -> dict[str, Any] | None:
        """A detection with all that its run says."""
        for run in self.runs.values():
            for one in run.detections:
                if one.id == detection_id:
                    given = [label for of, label in self.labels if of == detection_id]
                    return {
                        **msgspec.structs.asdict(one),
                        **{f"model_{k}": v for k, v in msgspec.structs.asdict(run.model).items()},
                        **{
                            f"exposure_{k}" if k in ("name", "hdu", "digest") else k: v
                            for k, v in msgspec.structs.asdict(run.exposure).items()
                        },
                        "run_id": run.run_id,
                        "created_at": run.created_at,
                        "model_id": next(
                            (
                                i
                                for i, m in self.models.items()
                                if m["version"] == run.model.version
                            ),
                            None,
                        ),
                        "features": self.features.get(detection_id),
                        "tta": run.tta,
                        "threshold": run.threshold,
                        **{
                            name: (one := getattr(run, name)) and msgspec.json.encode(one).decode()
                            for name in ("guarantee", "prevalence")
                        },
                        "label": given[-1].label if given else None,
                    }
        return None


def keep_in_memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A `Memory`, which every service uses from now on until the test ends."""
    for found in pkgutil.walk_packages(services.__path__, f"{services.__name__}."):
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            place = getattr(value, "__module__", None) or ""
            if inspect.iscoroutinefunction(value) and place.startswith(_STORAGE):
                whole = f"{place.removeprefix(_STORAGE)}.{value.__name__}"
                monkeypatch.setattr(module, name, _STAND_INS.get(whole) or _missing(whole))
    return Memory()


def _missing(whole: str) -> Callable[..., Any]:
    async def missing(*_: Any) -> None:
        raise NotImplementedError(f"no stand-in for {whole}")

    return missing


def _stands_in_for(storage: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _STAND_INS[f"{storage}.{function.__name__.strip('_')}"] = function
        return function

    return register


@_stands_in_for("api_keys")
async def find_key(memory: Memory, key_id: str) -> dict[str, Any] | None:
    return memory.keys.get(key_id)


@_stands_in_for("models")
async def insert_model(
    memory: Memory, model_id: UUID, model: ModelRef, card: bytes, digest: str
) -> None:
    memory.models.setdefault(
        model_id,
        {
            **msgspec.structs.asdict(model),
            "id": model_id,
            "card": card.decode(),
            "card_digest": digest,
            "created_at": datetime.now(UTC),
        },
    )


@_stands_in_for("models")
async def find_models(memory: Memory) -> list[dict[str, Any]]:
    return list(memory.models.values())


@_stands_in_for("models")
async def find_card(memory: Memory, model_id: UUID) -> str:
    return memory.models[model_id]["card"]


@_stands_in_for("routes")
async def find_route(memory: Memory, name: str) -> Route | None:
    return memory.routes.get(name)


@_stands_in_for("routes")
async def hold_route(memory: Memory, name: str) -> Route | None:
    return memory.routes.get(name)


@_stands_in_for("routes")
async def change_route(memory: Memory, name: str, new: RouteIn) -> tuple[Route, bool]:
    old = memory.routes.get(name)
    promoted = old is None or old.champion != new.champion
    previous = None if old is None else old.champion if promoted else old.previous_champion
    memory.routes[name] = Route(
        name=name,
        champion=new.champion,
        challenger=new.challenger,
        previous_champion=previous,
        prevalence=None if old is None else old.prevalence,
        updated_at=datetime.now(UTC),
    )
    return memory.routes[name], promoted


@_stands_in_for("routes")
async def set_prevalence(memory: Memory, name: str, prevalence: Any) -> Route | None:
    if name in memory.routes:
        memory.routes[name] = msgspec.structs.replace(memory.routes[name], prevalence=prevalence)
    return memory.routes.get(name)


@_stands_in_for("prevalence")
async def recent_runs(
    memory: Memory, name: str, exposures: int, age: timedelta, *, extracted: bool
) -> list[RecentRun]:
    of_version = {row["version"]: i for i, row in memory.models.items()}
    found = [
        RecentRun(
            id=run.run_id,
            model_id=of_version[run.model.version],
            tta=run.tta,
            shift=0.0 if run.prevalence is None else run.prevalence.shift,
            created_at=run.created_at,
        )
        for run in memory.runs.values()
        if run.extracted == extracted
    ]
    return found[::-1][:exposures]


@_stands_in_for("prevalence")
async def count_log_ratios(memory: Memory, runs: list[UUID], offsets: list[float]) -> Any:
    ratios, places = [], []
    for place, (run_id, offset) in enumerate(zip(runs, offsets, strict=True)):
        for one in memory.runs[run_id].detections:
            if one.confidence is not None:
                ratios.append(float(logit(one.confidence)) - offset)
                places.append(place)
    return counted(np.array(ratios), np.array(places, np.intp), len(runs))


@_stands_in_for("canaries")
async def find_running(memory: Memory, name: str) -> StoredCanary | None:
    found = (c for c in memory.canaries.values() if (c.name, c.status) == (name, "running"))
    return next(found, None)


@_stands_in_for("canaries")
async def hold_running(memory: Memory, name: str, *, wait: bool = True) -> StoredCanary | None:
    return await find_running(memory, name)


@_stands_in_for("canaries")
async def find_newest(memory: Memory, name: str) -> StoredCanary | None:
    return next((c for c in reversed(memory.canaries.values()) if c.name == name), None)


@_stands_in_for("canaries")
async def insert_canary(
    memory: Memory, canary_id: UUID, name: str, champion: int, challenger: int, kept: Kept
) -> None:
    assert await find_running(memory, name) is None
    memory.canaries[canary_id] = StoredCanary(
        id=canary_id,
        name=name,
        champion=champion,
        challenger=challenger,
        status="running",
        step=0,
        step_began_at=datetime.now(UTC),
        kept=kept,
        reason="it has begun",
        began_at=datetime.now(UTC),
        finished_at=None,
    )


@_stands_in_for("canaries")
async def set_seen(memory: Memory, canary_id: UUID, kept: Kept, reason: str) -> None:
    memory.canaries[canary_id] = memory.canaries[canary_id]._replace(kept=kept, reason=reason)


@_stands_in_for("canaries")
async def set_step(memory: Memory, canary_id: UUID, step: int, kept: Kept) -> None:
    memory.canaries[canary_id] = memory.canaries[canary_id]._replace(
        step=step, step_began_at=datetime.now(UTC), kept=kept
    )


@_stands_in_for("canaries")
async def finish_canary(memory: Memory, canary_id: UUID, status: Any, reason: str) -> None:
    memory.canaries[canary_id] = memory.canaries[canary_id]._replace(
        status=status, reason=reason, finished_at=datetime.now(UTC)
    )
    memory.canary_seen = []
    memory.canary_sources = {}


@_stands_in_for("canaries")
async def insert_step(memory: Memory, canary_id: UUID, step: CanaryStep) -> None:
    memory.canary_steps.append((canary_id, step))


@_stands_in_for("canaries")
async def list_steps(memory: Memory, canary_id: UUID) -> list[CanaryStep]:
    return [step for of, step in memory.canary_steps if of == canary_id]


@_stands_in_for("canaries")
async def find_unlogged_step(memory: Memory, name: str, since: datetime) -> Unlogged | None:
    for i, (canary_id, step) in enumerate(memory.canary_steps):
        if i not in memory.steps_logged:
            of = memory.canaries[canary_id]
            return Unlogged(i, i, canary_id, name, of.champion, of.challenger, step)
    return None


@_stands_in_for("canaries")
async def set_step_logged(memory: Memory, step_id: int, mlflow_run_id: str) -> None:
    memory.steps_logged.append(step_id)


@_stands_in_for("canaries")
async def insert_seen(memory: Memory, canary_id: UUID, seen: list[tuple[UUID, Seen]]) -> None:
    if memory.canaries[canary_id].status == "running":
        memory.canary_seen += seen


@_stands_in_for("canaries")
async def take_seen(memory: Memory, canary_id: UUID) -> list[Seen]:
    taken, memory.canary_seen = memory.canary_seen, []
    return [what for _, what in sorted(taken, key=lambda one: one[0])]


@_stands_in_for("canaries")
async def insert_sources(memory: Memory, canary_id: UUID, sources: list[Source]) -> None:
    if memory.canaries[canary_id].status == "running":
        memory.canary_sources |= {one.detection_id: one for one in sources}


@_stands_in_for("canaries")
async def take_labelled(memory: Memory, canary_id: UUID) -> list[tuple[float, float, bool]]:
    found = []
    for detection_id, given in memory.labels:
        if given.label in ("real", "artefact"):
            one = memory.canary_sources.pop(detection_id, None)
            if one is not None:
                found.append((one.champion, one.challenger, given.label == "real"))
    return found


@_stands_in_for("outbox")
async def insert_event(memory: Memory, event_id: UUID, subject: str, event: bytes) -> None:
    memory.outbox.append(Event(event_id, subject, msgspec.json.decode(event)))


@_stands_in_for("outbox")
async def insert_events(memory: Memory, subject: str, events: list[tuple[UUID, bytes]]) -> None:
    for event_id, event in events:
        await insert_event(memory, event_id, subject, event)


@_stands_in_for("outbox")
async def lock_waiting(memory: Memory, limit: int) -> list[Waiting]:
    waiting = [one for one in memory.outbox if one.id not in memory.published][:limit]
    return [Waiting(i, s, msgspec.json.encode(content).decode()) for i, s, content in waiting]


@_stands_in_for("outbox")
async def mark_published(
    memory: Memory, stream_made_at: datetime, published: dict[UUID, int]
) -> None:
    memory.published |= {one: (stream_made_at, place) for one, place in published.items()}


@_stands_in_for("outbox")
async def mark_waiting_beyond(memory: Memory, stream_made_at: datetime, last: int) -> int:
    lost = [
        one
        for one, (made_at, place) in memory.published.items()
        if made_at != stream_made_at or place > last
    ]
    await mark_waiting(memory, lost)
    return len(lost)


@_stands_in_for("outbox")
async def mark_waiting(memory: Memory, event_ids: list[UUID]) -> None:
    for one in event_ids:
        del memory.published[one]


@_stands_in_for("outbox")
async def list_published(
    memory: Memory, stream_made_at: datetime, below: int, limit: int
) -> list[Published]:
    noted = [
        Published(place, one)
        for one, (made_at, place) in memory.published.items()
        if made_at == stream_made_at and place < below
    ]
    return sorted(noted, reverse=True)[:limit]


@_stands_in_for("outbox")
async def measure_waiting(memory: Memory) -> tuple[int, float]:
    waiting = [one for one in memory.outbox if one.id not in memory.published]
    return len(waiting), 90.0 if waiting else 0.0


@_stands_in_for("durability")
async def read_settings(memory: Memory, names: list[str]) -> dict[str, str]:
    return {name: memory.server_settings[name] for name in names}


@_stands_in_for("migrate")
async def current_revision(memory: Memory) -> str | None:
    return memory.revision


@_stands_in_for("runs")
async def insert_run(memory: Memory, model_id: UUID, run: InferResponse, caller: str) -> None:
    assert model_id in memory.models
    memory.runs[run.run_id] = run
    memory.callers[run.run_id] = caller


@_stands_in_for("runs")
async def insert_runs(
    memory: Memory, model_id: UUID, runs: list[InferResponse], caller: str
) -> None:
    for run in runs:
        await insert_run(memory, model_id, run, caller)


@_stands_in_for("runs")
async def find_caller(memory: Memory, run_id: UUID) -> str | None:
    return memory.callers.get(run_id)


@_stands_in_for("runs")
async def find_run(memory: Memory, run_id: UUID) -> InferResponse | None:
    return memory.runs.get(run_id)


@_stands_in_for("runs")
async def list_runs(
    memory: Memory, run_id: UUID | None, after: UUID | None, limit: int
) -> list[RunSummary]:
    wanted = [
        run
        for run in sorted(memory.runs.values(), key=lambda run: run.run_id, reverse=True)
        if run_id in (None, run.run_id) and (after is None or run.run_id < after)
    ]
    return [
        msgspec.convert(
            msgspec.structs.asdict(run)
            | {
                "detections": len(run.detections),
                "real": sum(one.is_real for one in run.detections),
                "labelled": 0,
            },
            RunSummary,
            from_attributes=True,
        )
        for run in wanted[:limit]
    ]


@_stands_in_for("detections")
async def insert_detections(
    memory: Memory, run_id: UUID, detections: list[Any], features: list[list[float] | None]
) -> None:
    assert run_id in memory.runs
    memory.features |= {d.id: f for d, f in zip(detections, features, strict=True)}


@_stands_in_for("detections")
async def insert_detections_of(memory: Memory, runs: list[tuple[UUID, list[Any], Any]]) -> None:
    for run_id, detections, features in runs:
        await insert_detections(memory, run_id, detections, features)


@_stands_in_for("detections")
async def insert_cutouts(memory: Memory, cutouts: dict[UUID, KeptCutout]) -> None:
    memory.cutouts |= {
        name: {
            "pixels": kept.difference,
            "png": None,
            "science": kept.science,
            "template": kept.template,
        }
        for name, kept in cutouts.items()
    }


@_stands_in_for("detections")
async def find_cutout(memory: Memory, detection_id: UUID) -> dict[str, Any] | None:
    kept = memory.cutouts.get(detection_id)
    if kept is None or (row := memory.row(detection_id)) is None:
        return None
    image = memory.runs[row["run_id"]].image
    return {
        **row,
        **{"science": None, "template": None, "background": image.background},
        **{"noise": image.noise, **kept},
    }


@_stands_in_for("detections")
async def pictured_planes(memory: Memory, detection_id: UUID) -> tuple[str, ...]:
    kept = memory.cutouts.get(detection_id)
    if kept is None:
        return ()
    return (*(one for one in COMPANIONS if kept.get(one) is not None), "difference")


@_stands_in_for("pictures")
async def insert_picture(memory: Memory, run_id: UUID, picture: Overview) -> None:
    memory.pictures[run_id] = picture


@_stands_in_for("pictures")
async def find_picture(memory: Memory, run_id: UUID) -> Overview | None:
    return memory.pictures.get(run_id)


@_stands_in_for("pictures")
async def find_binning(memory: Memory, run_id: UUID) -> int | None:
    return memory.pictures[run_id].binning if run_id in memory.pictures else None


@_stands_in_for("detections")
async def find_detection(memory: Memory, detection_id: UUID) -> dict[str, Any] | None:
    return memory.row(detection_id)


@_stands_in_for("listing")
async def find_place(memory: Memory, detection_id: UUID) -> dict[str, Any] | None:
    row = memory.row(detection_id)
    return row and {**row, "committed_in": str(list(memory.runs).index(row["run_id"]))}


@_stands_in_for("listing")
async def find_frontier(memory: Memory) -> dict[str, Any] | None:
    ids = [one.id for run in memory.runs.values() for one in run.detections]
    return await find_place(memory, ids[-1]) if ids else None


@_stands_in_for("detections")
async def list_detections(
    memory: Memory,
    wanted: Any,
    after: dict[str, Any] | None,
    limit: int,
    sort: str = "newest",
    until: Any = None,
    *,
    backwards: bool = False,
) -> list[Any]:
    runs = list(memory.runs.values())
    if sort == "newest":
        runs.sort(key=lambda run: run.run_id, reverse=True)
    ids = [one.id for run in runs for one in run.detections]
    if backwards:
        ids.reverse()
    rows = [memory.row(one) for one in ids[ids.index(after["id"]) + 1 if after else 0 :]]
    found = [row for row in rows if row and wanted.run_id in (None, row["run_id"])]
    if wanted.label == "none":
        found = [row for row in found if row["label"] is None]
    return [stored_detection(row) for row in found[:limit]]  # type: ignore[arg-type]


@_stands_in_for("detections")
async def set_label(
    memory: Memory, label_id: UUID, detection_id: UUID, label: Any, comment: Any, author: str
) -> bool:
    if memory.row(detection_id) is None:
        return False
    given = GivenLabel(label=label, comment=comment, author=author, created_at=datetime.now(UTC))
    memory.labels.append((detection_id, given))
    return True


@_stands_in_for("detections")
async def list_labels(memory: Memory, detection_id: UUID) -> list[GivenLabel]:
    return [given for of, given in reversed(memory.labels) if of == detection_id]


@_stands_in_for("detections")
async def find_contested(memory: Memory, detections: list[UUID]) -> set[UUID]:
    last: dict[UUID, dict[str, Any]] = {}
    for of, given in memory.labels:
        last.setdefault(of, {})[given.author] = given.label
    return {one for one in detections if len(set(last.get(one, {}).values()) - {None}) > 1}


@_stands_in_for("disputes")
async def find_scored_otherwise(memory: Memory, runs: list[UUID]) -> list[tuple[UUID, ...]]:
    model = {run.run_id: memory.model_of(run) for run in memory.runs.values()}
    return [
        (one, model[one], other.run_id, model[other.run_id])
        for one in runs
        for other in memory.runs.values()
        if model[other.run_id] != model[one]
        and other.exposure.digest == memory.runs[one].exposure.digest
    ]


@_stands_in_for("disputes")
async def find_verdicts(memory: Memory, run_id: UUID) -> list[Verdict]:
    return [
        Verdict(one.id, one.x, one.y, one.confidence, one.is_real)
        for one in memory.runs[run_id].detections
        if one.outcome == "kept" and one.x is not None and one.y is not None
    ]


@_stands_in_for("disputes")
async def insert_disputes(memory: Memory, disputes: list[Dispute]) -> None:
    memory.disputes |= {(one.detection_id, one.model_id): one for one in disputes}


@_stands_in_for("disputes")
async def find_disputes(memory: Memory, detection_id: UUID) -> list[OtherVerdict]:
    return [
        OtherVerdict(
            memory.models[model]["name"],
            memory.models[model]["version"],
            one.confidence,
            one.is_real,
        )
        for (of, model), one in memory.disputes.items()
        if of == detection_id
    ]


@_stands_in_for("detections")
async def places_of_run(memory: Memory, run_id: UUID, limit: int) -> list[tuple[Any, Any]]:
    return [(one.x, one.y) for one in memory.runs[run_id].detections[:limit]]


@_stands_in_for("detections")
async def pictured(memory: Memory, run_id: UUID) -> set[UUID]:
    return {one.id for one in memory.runs[run_id].detections} & memory.cutouts.keys()


@_stands_in_for("jobs")
async def insert_job(memory: Memory, run_id: UUID, caller: str, name: str | None) -> None:
    memory.callers[run_id] = caller
    memory.jobs[run_id] = {
        **{"id": run_id, "status": "queued", "done": 0, "of": 0, "problem": None},
        **{"created_at": datetime.now(UTC), "finished_at": None, "heartbeat_at": datetime.now(UTC)},
    }


@_stands_in_for("jobs")
async def find_job(memory: Memory, run_id: UUID) -> dict[str, Any] | None:
    return memory.jobs.get(run_id)


@_stands_in_for("jobs")
async def complete_job(memory: Memory, run_id: UUID) -> bool:
    job = memory.jobs[run_id]
    if job["finished_at"] is not None:
        return False
    memory.jobs[run_id] = job | {"status": "complete", "finished_at": datetime.now(UTC)}
    return True


@_stands_in_for("jobs")
async def fail_job(memory: Memory, run_id: UUID, problem: bytes) -> None:
    if memory.jobs[run_id]["finished_at"] is not None:
        return
    ended = {"status": "failed", "finished_at": datetime.now(UTC), "problem": problem.decode()}
    memory.jobs[run_id] = memory.jobs[run_id] | ended
    for key, (_, of) in list(memory.idempotency.items()):
        if of == run_id:
            del memory.idempotency[key]


@_stands_in_for("jobs")
async def _find_key(memory: Memory, caller: str, key: str) -> tuple[str, UUID] | None:
    return memory.idempotency.get((caller, key))


@_stands_in_for("jobs")
async def take_key(memory: Memory, caller: str, key: str, digest: str, run_id: UUID) -> bool:
    return memory.idempotency.setdefault((caller, key), (digest, run_id))[1] == run_id


@_stands_in_for("jobs")
async def take_places(
    memory: Memory, caller: str, key: str, digest: str, runs: dict[int, UUID]
) -> None:
    for place, run_id in runs.items():
        memory.idempotency[caller, f"{key} {place}"] = (digest, run_id)


@_stands_in_for("jobs")
async def find_places(memory: Memory, caller: str, key: str) -> dict[int, UUID]:
    return {
        int(known.removeprefix(f"{key} ")): run_id
        for (of, known), (_, run_id) in memory.idempotency.items()
        if of == caller and known.startswith(f"{key} ")
    }


@_stands_in_for("jobs")
async def beat(memory: Memory, progress: dict[UUID, tuple[int, int]]) -> None:
    for run_id, (done, of) in progress.items():
        told = {"done": done, "of": of, "heartbeat_at": datetime.now(UTC)}
        memory.jobs[run_id] = memory.jobs[run_id] | told


@_stands_in_for("jobs")
async def find_failed(memory: Memory, run_ids: list[UUID]) -> list[UUID]:
    return [one for one in run_ids if memory.jobs[one]["status"] == "failed"]


@_stands_in_for("jobs")
async def find_abandoned_jobs(memory: Memory, silence: timedelta) -> list[UUID]:
    silent = datetime.now(UTC) - silence
    return [
        run_id
        for run_id, job in memory.jobs.items()
        if job["finished_at"] is None and job["heartbeat_at"] < silent
    ]


@_stands_in_for("jobs")
async def forget(memory: Memory, keys: timedelta, events: timedelta) -> None:
    pass


@_stands_in_for("shadow")
async def insert_comparison(
    memory: Memory, run_id: UUID, model_id: UUID, comparison: Comparison
) -> None:
    memory.comparisons.append((run_id, model_id, comparison))


@_stands_in_for("agreement")
async def find_comparisons(
    memory: Memory, name: str, champion: int, shadow: int, since: datetime, until: datetime
) -> list[Comparison]:
    return memory.shadowed.get((champion, shadow), [])


@_stands_in_for("agreement")
async def find_twins(
    memory: Memory, name: str, one: int, other: int, since: datetime, until: datetime, most: int
) -> list[tuple[UUID, UUID]]:
    return memory.twins


@_stands_in_for("agreement")
async def find_kept(memory: Memory, runs: list[UUID]) -> dict[UUID, list[KeptSource]]:
    return {run: memory.kept[run] for run in runs}


@_stands_in_for("performance")
async def store_measured(
    memory: Memory, gateway: UUID, name: str, measured: list[MeasuredMinute]
) -> None:
    for one in measured:
        memory.measured[gateway, one.minute, one.version, one.measure] = one


@_stands_in_for("performance")
async def find_measured(
    memory: Memory, name: str, version: int, since: datetime, until: datetime
) -> dict[str, Sketch]:
    found: dict[str, Sketch] = {}
    for one in memory.measured.values():
        if one.version == version and since <= one.minute < until:
            sketch = found.setdefault(one.measure, Sketch())
            sketch.counts.update(dict(zip(one.bins, one.counts, strict=True)))
            sketch.total += one.total
    return found


@_stands_in_for("performance")
async def find_series(
    memory: Memory, name: str, version: int, since: datetime, until: datetime, step: timedelta
) -> dict[datetime, dict[str, Sketch]]:
    found: dict[datetime, dict[str, Sketch]] = {}
    for one in memory.measured.values():
        shown = one.measure == "request" or one.measure.startswith("error.")
        if shown and one.version == version and since <= one.minute < until:
            begin = since + (one.minute - since) // step * step
            sketch = found.setdefault(begin, {}).setdefault(one.measure, Sketch())
            sketch.counts.update(dict(zip(one.bins, one.counts, strict=True)))
    return found


@_stands_in_for("performance")
async def store_counted(memory: Memory, name: str, version: int, counted: list[Counted]) -> None:
    memory.counted += [(version, one) for one in counted]


@_stands_in_for("performance")
async def find_counted(
    memory: Memory, name: str, version: int, since: datetime, until: datetime
) -> list[tuple[str, dict[str, int]]]:
    return [(one.server, one.counts) for of, one in memory.counted if of == version]


@_stands_in_for("performance")
async def confidences_of_labelled(memory: Memory, *_: Any) -> list[tuple[float, bool, str]]:
    return memory.labelled


@_stands_in_for("drift")
async def last_check(memory: Memory, name: str, version: int) -> None:
    return None


@_stands_in_for("drift")
async def insert_samples(memory: Memory, name: str, samples: list[Sample]) -> None:
    memory.samples += samples


@_stands_in_for("drift")
async def find_samples(
    memory: Memory, name: str, version: int, since: datetime, until: datetime, most: int
) -> list[Any]:
    found = [s for s in memory.samples if s.version == version and since <= s.created_at < until]
    return [one.described for one in found[-most:]]


@_stands_in_for("drift")
async def count_scored(
    memory: Memory, name: str, version: int, since: datetime, until: datetime
) -> int:
    return len([s for s in memory.samples if s.version == version and since <= s.created_at])


@_stands_in_for("drift")
async def find_baseline(memory: Memory, name: str, version: int) -> Accepted | None:
    return memory.baselines.get(version)


@_stands_in_for("drift")
async def set_baseline(memory: Memory, name: str, version: int, accepted: Accepted | None) -> None:
    memory.baselines.pop(version, None)
    if accepted is not None:
        memory.baselines[version] = accepted


@_stands_in_for("drift")
async def hold_checks(memory: Memory, name: str) -> None:
    pass


@_stands_in_for("drift")
async def insert_check(
    memory: Memory,
    check_id: UUID,
    model: VersionRef,
    window: Window,
    status: Any,
    found: Found,
    report: Any,
) -> None:
    memory.checks[check_id] = DriftCheck(
        id=check_id,
        model=model,
        created_at=window.until,
        window=window,
        status=status,
        false_alarms=FALSE_ALARMS,
        report=Report(status=report),
        **msgspec.structs.asdict(found),
    )


@_stands_in_for("drift")
async def find_check(memory: Memory, check_id: UUID) -> DriftCheck | None:
    return memory.checks.get(check_id)


@_stands_in_for("drift")
async def list_checks(memory: Memory, name: str, version: int, limit: int) -> list[DriftCheck]:
    found = [one for one in memory.checks.values() if one.model.version == version]
    return found[::-1][:limit]


@_stands_in_for("validations")
async def last_validations(memory: Memory, *_: Any) -> list[Any]:
    return memory.validations


@_stands_in_for("validations")
async def insert_validation(
    memory: Memory,
    validation_id: UUID,
    model: VersionRef,
    compare_version: int | None,
    dataset: str,
    requested_by: str,
) -> None:
    memory.under_way[validation_id] = Validation(
        id=validation_id,
        model=model,
        compare_with=compare_version and VersionRef(name=model.name, version=compare_version),
        dataset=dataset,
        status="queued",
        progress=0.0,
        fields=0,
        created_at=datetime.now(UTC),
        requested_by=requested_by,
    )


@_stands_in_for("validations")
async def _beat(memory: Memory, validation_id: UUID, done: int, of: int) -> None:
    _change(memory, validation_id, status="running", progress=done / max(of, 1), fields=of)


@_stands_in_for("validations")
async def complete(memory: Memory, validation_id: UUID, result: Result, passed: bool) -> bool:
    told = {name: getattr(result, name) for name in Result.__struct_fields__ if name != "source"}
    ended = {"status": "complete", "progress": 1.0, "passed": passed}
    return _change(memory, validation_id, **ended, finished_at=datetime.now(UTC), **told)


@_stands_in_for("validations")
async def fail(memory: Memory, validation_id: UUID, problem: Problem) -> None:
    ended = {"status": "failed", "finished_at": datetime.now(UTC), "problem": problem}
    _change(memory, validation_id, **ended)


def _change(memory: Memory, validation_id: UUID, **changes: Any) -> bool:
    old = memory.under_way[validation_id]
    if old.finished_at is not None:
        return False
    memory.under_way[validation_id] = msgspec.structs.replace(old, **changes)
    return True


@_stands_in_for("validations")
async def find_validation(memory: Memory, validation_id: UUID) -> Validation | None:
    return memory.under_way.get(validation_id)


@_stands_in_for("validations")
async def list_validations(
    memory: Memory, name: str, version: int | None, limit: int
) -> list[Validation]:
    found = [one for one in memory.under_way.values() if version in (None, one.model.version)]
    return found[::-1][:limit]


@_stands_in_for("tracking")
async def hold_tracking(memory: Memory, name: str, version: int) -> bool:
    return True


@_stands_in_for("tracking")
async def measured_versions(memory: Memory, name: str, since: datetime) -> list[int]:
    return sorted({one.version for one in memory.measured.values() if one.minute >= since})


@_stands_in_for("tracking")
async def find_served_run(memory: Memory, name: str, version: int) -> ServedRun | None:
    return memory.served.get(version)


@_stands_in_for("tracking")
async def set_served_run(memory: Memory, name: str, version: int, run: ServedRun) -> None:
    memory.served[version] = run


@_stands_in_for("tracking")
async def find_minutes(
    memory: Memory, name: str, version: int, since: datetime, until: datetime, most: int
) -> list[datetime]:
    found = {o.minute for o in memory.measured.values() if o.version == version}
    return sorted(minute for minute in found if since <= minute < until)[:most]


@_stands_in_for("validations")
async def find_unlogged(memory: Memory, name: str, since: datetime) -> Any:
    return next((one for one in memory.validations if one.id not in memory.logged), None)


@_stands_in_for("validations")
async def find_result(memory: Memory, validation_id: UUID) -> Any:
    return next(one for one in memory.validations if one.id == validation_id)


@_stands_in_for("validations")
async def set_logged(memory: Memory, validation_id: UUID, mlflow_run_id: str) -> None:
    memory.logged[validation_id] = mlflow_run_id
