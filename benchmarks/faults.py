"""Faults in a stack that serves, and whether anything was lost, doubled or left waiting.

``python -m benchmarks.faults --minutes 30`` starts a stack of its own and hurts it again and again
under steady load. The integration tests run each fault once.
"""

import asyncio
import contextlib
import io
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import click
import httpx
import msgspec
import nats
import numpy as np
import psutil

from astrotriton.client import AsyncClient, InferRequest, InferResponse, ProblemError, Retries
from astrotriton.client.errors import ClientError
from astrotriton.stack import Addresses, check_golden, down, up
from astrotriton.stack.site import State, read_state
from benchmarks.clients import asking

DEADLINE = 60.0
_SLACK = 2.0  # for this process itself to notice, on busy cores
_RECOVERY = 120.0


@dataclass(slots=True)
class Victim:
    """A stack that runs in a process of its own, and the ways to hurt it."""

    data: Path
    addresses: Addresses

    @property
    def state(self) -> State:
        """What its owner publishes."""
        state = read_state(self.data)
        if state is None:
            raise RuntimeError(f"{self.data} holds no stack")
        return state

    def part(self, name: str) -> psutil.Process:
        """The process of a part: the child of its guard."""
        for guard in psutil.Process(self.state.owner).children():
            # Another part's may end while they are looked at.
            with contextlib.suppress(psutil.Error):
                if Path(guard.cwd()).name == name:
                    return guard.children()[0]
        raise RuntimeError(f"{name} does not run")

    def stub(self) -> psutil.Process:
        """One instance of the model."""
        children = self.part("triton").children(recursive=True)
        return random.choice([c for c in children if c.name().startswith("triton_python_b")])

    async def recover(self, started: float) -> float:
        """Wait until every part runs and the model answers right: the seconds since a fault."""
        reason: object = None
        while time.monotonic() - started < _RECOVERY:
            try:
                await self._check()
            except Exception as error:  # clients fail in many ways while servers start
                reason = error
                await asyncio.sleep(0.2)
            else:
                return time.monotonic() - started
        raise RuntimeError(f"not ready again within {_RECOVERY:g} s: {reason!r}")

    async def _check(self) -> None:
        state = self.state
        for name in ("postgres", "nats", "s3", "mlflow", "triton", "gateway"):
            self.part(name)
            if "starting" in state.parts[name]:
                raise RuntimeError(f"{name}: {state.parts[name]}")
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
            ready = await http.get(f"{self.addresses.gateway_url}/health/ready")
            if ready.is_error:
                raise RuntimeError(f"the gateway is not ready: {ready.text}")
            for port in (self.addresses.s3_url, f"{self.addresses.mlflow_url}/health"):
                await http.get(port)
        for card in (self.data / "model_repository").glob("*/*/card.json"):
            await check_golden(self.addresses.triton_grpc, card.parent, thorough=False)


Fault = Callable[[Victim], Awaitable[None]]


def kill(*names: str) -> Fault:
    """``kill -9`` of parts, or of a model's instance (``stub``), at the same moment."""

    async def fault(victim: Victim) -> None:
        found = [victim.stub() if name == "stub" else victim.part(name) for name in names]
        for process in found:
            process.kill()
        await asyncio.sleep(0.5)

    return fault


def stop(name: str, seconds: float) -> Fault:
    """SIGSTOP of a part and all that it started, for a while."""

    async def fault(victim: Victim) -> None:
        part = victim.part(name)
        processes = [part, *part.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    return fault


def fill_disk(seconds: float) -> Fault:
    """No byte left where PostgreSQL writes, for a while."""

    async def fault(victim: Victim) -> None:
        ballast = victim.data / "postgres" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while file.write(b"\0"):
                pass
        await asyncio.sleep(seconds)
        ballast.unlink()

    return fault


def drop_connections(seconds: float) -> Fault:
    """PostgreSQL ends the gateway's sessions again and again, and clients leave half-way."""

    async def fault(victim: Victim) -> None:
        end = time.monotonic() + seconds
        database = await asyncpg.connect(victim.addresses.database_url)
        try:
            while time.monotonic() < end:
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = current_user AND pid <> pg_backend_pid()"
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.05, 0.4)):
                        async with AsyncClient(victim.addresses.gateway_url) as client:
                            await client.score(exposure(0), InferRequest(exposure_id="left"))
        finally:
            await database.close()

    return fault


#: Each kind of fault once, by name.
FAULTS: dict[str, Fault] = {
    "kill a model's instance": kill("stub"),
    "kill Triton": kill("triton"),
    "kill PostgreSQL": kill("postgres"),
    "kill NATS": kill("nats"),
    "kill the S3 store": kill("s3"),
    "kill MLflow": kill("mlflow"),
    "kill the gateway": kill("gateway"),
    "kill PostgreSQL and the gateway": kill("postgres", "gateway"),
    "kill Triton and NATS": kill("triton", "nats"),
    "stop PostgreSQL for 5 s": stop("postgres", 5.0),
    "stop Triton for 5 s": stop("triton", 5.0),
    "stop NATS for 5 s": stop("nats", 5.0),
    "drop connections for 3 s": drop_connections(3.0),
    "fill PostgreSQL's disk for 3 s": fill_disk(3.0),
}


#: Further ones, too long for a test.
LONG_FAULTS: dict[str, Fault] = {
    f"stop {title} for 20 s": stop(name, 20.0)
    for name, title in (
        ("postgres", "PostgreSQL"),
        ("triton", "Triton"),
        ("nats", "NATS"),
        ("gateway", "the gateway"),
    )
}


def can_fill_disk(data: Path) -> bool:
    """Whether PostgreSQL's folder is a file system of its own."""
    return (data / "postgres").is_mount()


def exposure(seed: int) -> bytes:
    """A small difference exposure with two sources in it, as a ``.npy`` file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    image = rng.normal(size=(96, 96))
    for column, row in rng.uniform(16, 80, size=(2, 2)):
        image += 20.0 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 1.8**2))
    file = io.BytesIO()
    np.save(file, image.astype(np.float32))
    return file.getvalue()


@dataclass(slots=True)
class Report:
    """What clients saw, and what was found afterwards."""

    recoveries: dict[str, list[float]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: dict[str, InferResponse] = field(default_factory=dict)
    longest_wait: float = 0.0
    stored_runs: int = 0
    stored_detections: int = 0
    events: int = 0
    events_repeated: int = 0
    broken: list[str] = field(default_factory=list)

    def answered(self, run: InferResponse, waited: float) -> None:
        """Note a run that a client was answered, after so many seconds."""
        self.answers[str(run.run_id)] = run
        self.longest_wait = max(self.longest_wait, waited)

    def __str__(self) -> str:
        lines = [f"{'fault':<36} ready again after (s)"]
        for name, seconds in self.recoveries.items():
            lines.append(f"{name:<36} {', '.join(f'{value:.1f}' for value in seconds)}")
        lines += [
            f"answers to clients: {dict(self.outcomes)}; the longest wait {self.longest_wait:.1f} s"
            f" of {DEADLINE:g} s",
            f"stored: {self.stored_runs} runs with {self.stored_detections} detections;"
            f" {len(self.answers)} of the runs were answered",
            f"events on the stream: {self.events}, {self.events_repeated} of them more than once",
            f"broken promises: {len(self.broken)}",
            *(f"  {text}" for text in self.broken[:20]),
        ]
        return "\n".join(lines)


@contextlib.asynccontextmanager
async def load(gateway_url: str, report: Report, clients: int = 3) -> AsyncIterator[None]:
    """Keep a few clients scoring while the block runs."""
    patient = Retries(attempts=100, longest_pause=2.0)
    async with AsyncClient(gateway_url, deadline=DEADLINE, retries=patient) as http:

        async def ask(number: int, turn: int) -> None:
            name = f"load {number}/{turn}"
            started = time.monotonic()
            try:
                run = await http.score(exposure(turn), InferRequest(exposure_id=name))
            except ProblemError as error:
                report.outcomes[f"{error.status} {error.code}"] += 1
                if error.status in (500, 502):
                    report.broken.append(f"{name}: {error}")
            except ClientError as error:
                report.outcomes[type(error).__name__] += 1
            else:
                report.outcomes["200"] += 1
                report.answers[str(run.run_id)] = run
            waited = time.monotonic() - started
            report.longest_wait = max(report.longest_wait, waited)
            if waited > DEADLINE + _SLACK:
                report.broken.append(f"{name} waited {waited:.1f} s")

        async with asking(ask, clients=clients):
            yield


async def hurt(victim: Victim, faults: Sequence[str], report: Report) -> None:
    """Cause faults one after the other, each after the recovery from the one before."""
    async with load(victim.addresses.gateway_url, report):
        for name in faults:
            await asyncio.sleep(1.0)
            started = time.monotonic()
            await (FAULTS | LONG_FAULTS)[name](victim)
            try:
                recovery = await victim.recover(started)
            except RuntimeError as error:
                error.add_note(f"after the fault: {name}")
                raise
            report.recoveries.setdefault(name, []).append(recovery)
        await asyncio.sleep(1.0)


async def audit(database_url: str, nats_url: str, report: Report) -> None:
    """Compare what clients were answered with the database and the stream."""
    database = await asyncpg.connect(database_url)
    try:
        while await database.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"):
            await asyncio.sleep(0.2)
        stored: dict[str, list[str]] = {}
        for row in await database.fetch("SELECT id::text, run_id::text FROM detections"):
            stored.setdefault(row["run_id"], []).append(row["id"])
        runs = await database.fetch("SELECT id::text, detections FROM runs")
        outbox = await database.fetch(
            "SELECT id::text, event ->> 'subject' AS run FROM outbox"
            " WHERE subject = 'detection.scored'"
        )
    finally:
        await database.close()

    def promise(kept: bool, otherwise: str) -> None:
        if not kept:
            report.broken.append(otherwise)

    report.stored_runs = len(runs)
    report.stored_detections = sum(map(len, stored.values()))
    for run_id, answer in report.answers.items():
        answered = sorted(str(detection.id) for detection in answer.detections)
        promise(
            sorted(stored.get(run_id, [])) == answered,
            f"run {run_id} was answered with {len(answered)} detections, and the database holds"
            f" {len(stored.get(run_id, []))}",
        )
    for row in runs:
        held = len(stored.get(row["id"], []))
        promise(
            held == row["detections"],
            f"run {row['id']} says {row['detections']} detections, and has {held}",
        )
    told = Counter(row["run"] for row in outbox)
    for row in runs:
        promise(told[row["id"]] == 1, f"run {row['id']} has {told[row['id']]} events")
    seen = await _events(nats_url)
    report.events = len(seen)
    report.events_repeated = sum(count > 1 for count in seen.values())
    for row in outbox:
        promise(row["id"] in seen, f"event {row['id']} is not on the stream")
    promise(len({row["id"] for row in outbox}) == len(outbox), "two events share an id")


async def _events(nats_url: str) -> Counter[str]:
    """How often each event of the stream is on it, by id."""
    client = await nats.connect(nats_url)
    seen: Counter[str] = Counter()
    try:
        stream = client.jetstream()
        subscription = await stream.subscribe("detection.scored", ordered_consumer=True)
        info = await subscription.consumer_info()
        # What was delivered may still be on its way here.
        delivered = info.delivered.consumer_seq if info.delivered is not None else 0
        left = (info.num_pending or 0) + delivered
        while left > 0:
            message = await subscription.next_msg(timeout=10.0)
            event: dict[str, Any] = msgspec.json.decode(message.data)
            seen[event["id"]] += 1
            left = message.metadata.num_pending
    finally:
        await client.close()
    return seen


@click.command()
@click.option("--minutes", type=float, default=30.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(minutes: float, seed: int) -> None:
    """Hurt a stack of its own for some minutes, in random order, and print the counts."""
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        owner = [
            *("env", "ASTROTRITON_STACK_RESTARTS=1000"),
            *(sys.executable, "-m", "astrotriton.one_machine.owner", str(data)),
        ]
        names = [name for name in FAULTS | LONG_FAULTS if "disk" not in name]
        report = Report()
        try:
            addresses = up(data, owner, on_progress=lambda part, what: click.echo(f"{part} {what}"))
            victim = Victim(data, addresses)

            async def run() -> None:
                end = time.monotonic() + 60.0 * minutes
                while time.monotonic() < end:
                    await hurt(victim, [choose.choice(names)], report)
                await audit(addresses.database_url, addresses.nats_url, report)

            asyncio.run(run())
        finally:
            down(data)
    click.echo(str(report))
    raise SystemExit(bool(report.broken))


if __name__ == "__main__":
    main()
