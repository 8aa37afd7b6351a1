"""What is measured with one network, from the start of its stack to its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow

from benchmarks.speed.contenders.alternative import Alternative
from benchmarks.speed.contenders.alternatives import ALTERNATIVES
from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.contenders.raw import RawProcesses, RawThreads, sgemm_gflops
from benchmarks.speed.contenders.served import (
    GatewayExtracting,
    GatewayGrpc,
    GatewayHttp,
    PerfAnalyzer,
    TritonClient,
)
from benchmarks.speed.exposures import Exposure, exposures
from benchmarks.speed.figures import Spread
from benchmarks.speed.interleave import Field, Progress, interleave, settle
from benchmarks.speed.latency import large, p50_overhead
from benchmarks.speed.networks import Network, Served, gflop, serving
from benchmarks.speed.processes import free_port
from benchmarks.speed.report import Measured, NetworkReport
from benchmarks.speed.rows import copy_vs_bare

CLIENTS = 16
_EXPOSURES = 16
_WARM_UP = 4
# By then a server has done what it does once: the gateway imports MLflow after half a minute.
_YOUNG = 45.0
_LARGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    rounds
        Turns of each contender.
    count
        Exposures a turn.
    tries
        Exposures that each setting of an alternative is tried with; 0: the known best is taken.
    only
        Keys of contenders, and ``latency``, ``large`` and ``rows``; empty: all.
    cache
        Where exposures and environments are kept.
    """

    rounds: int
    count: int
    tries: int
    only: frozenset[str]
    cache: Path

    def wants(self, key: str) -> bool:
        """Whether a contender or a part is measured."""
        return not self.only or key in self.only


def measure(
    network: Network, plan: Plan, on_progress: Progress, save: Callable[[NetworkReport], None]
) -> None:
    """Serve a network, and let everybody score the same exposures.

    Parameters
    ----------
    save
        Called with what is known after each round, and at the end: who stops it keeps that.
    """
    on_progress(f"starting a stack that serves the {network.title}")
    with serving(network, free_port()) as served:
        report = NetworkReport(title=network.title, gflop=gflop(served.content))
        shown = exposures(_EXPOSURES, served.card, plan.cache)
        field = Field(on_progress)
        try:
            for contender in _contenders(shown, served, plan):
                if plan.wants(contender.key):
                    field.add(contender, _WARM_UP)
            on_progress("waiting until all servers are idle")
            settle(field, _YOUNG)
            for turns in interleave(field, plan.rounds, plan.count, CLIENTS, on_progress):
                report.sgemm_gflops.append(sgemm_gflops())
                report.contenders = {
                    one.key: Measured(title=one.title, tried=_tried(one), turns=turns[one.key])
                    for one in field.running
                } | {
                    key: Measured(title=title, not_run=reason)
                    for key, (title, reason) in field.not_run.items()
                }
                save(report)
        finally:
            field.stop()
        report.further = _apart(served, plan, shown, on_progress)
        save(report)


def _apart(
    served: Served, plan: Plan, shown: Sequence[Exposure], on_progress: Progress
) -> dict[str, Spread]:
    """What is not measured in turns: one exposure at a time, a large one, and rows."""
    gateway = GatewayHttp(shown, served)
    found: dict[str, Spread] = {}
    try:
        if plan.wants("latency"):
            on_progress("one exposure at a time")
            found["p50_overhead_vs_raw"] = p50_overhead(shown, served, gateway, plan.rounds)
        if plan.wants("large"):
            on_progress(f"an exposure of {_LARGE}x{_LARGE}")
            whole = exposures(1, served.card, plan.cache, _LARGE)[0]
            found |= large(whole, served, gateway, max(plan.rounds // 2, 1))
        if plan.wants("rows"):
            on_progress("storing rows")
            database, answer = served.victim.addresses.database_url, gateway.ask(shown[0])
            found["copy_vs_bare"] = copy_vs_bare(database, answer, plan.rounds)
    finally:
        gateway.stop()
    return found


def _contenders(shown: Sequence[Exposure], served: Served, plan: Plan) -> list[Contender]:
    content = served.content
    found: list[Contender] = [
        RawThreads(shown, content, sessions=2, threads=1),
        RawProcesses(shown, content, processes=2),
        RawThreads(shown, content, sessions=1, threads=2),
        PerfAnalyzer(shown, served, plan.cache),
        TritonClient(shown, served),
        GatewayHttp(shown, served),
        GatewayGrpc(shown, served),
        GatewayExtracting(shown, served),
    ]
    wanted = [one for one in ALTERNATIVES if plan.wants(one.key)]
    if wanted:
        model = _model(served, plan.cache)
        found += [one(shown, model, plan.cache, tries=plan.tries) for one in wanted]
    return found


def _model(served: Served, cache: Path) -> Path:
    """The Keras model as MLflow keeps it, in a folder."""
    mlflow.set_tracking_uri(served.victim.addresses.mlflow_url)
    folder = cache / "models" / served.card.digests["model.onnx"][:12]
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{served.card.name}/{served.card.version}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))).resolve()


def _tried(contender: Contender) -> dict[str, float | str]:
    return contender.tried if isinstance(contender, Alternative) else {}
