"""Cuts of PostgreSQL's and NATS's power under load, and the promises that are looked at."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self
from uuid import UUID

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from astrotriton.stack.parts.nats import nats
from astrotriton.stack.parts.postgres import postgres
from astrotriton.stack.process import Part
from astrotriton.stack.site import Site
from benchmarks import faults
from benchmarks.power.load import SUBJECT, Consumer, events_written, on_stream
from benchmarks.power.servers import Server, gateway, on_a_disk, until_ready

_PATIENCE = 900.0

# An outbox as it was before it noted where on the stream an event came to lie.
_FORGET = """
CREATE FUNCTION forget_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.stream_made_at := NULL;
    NEW.stream_sequence := NULL;
    RETURN NEW;
END $$;
UPDATE outbox SET stream_made_at = NULL, stream_sequence = NULL;
CREATE TRIGGER forget_place BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION forget_place();
"""


@dataclass(slots=True)
class Findings:
    """What was answered before the cuts, and what of it is not there afterwards."""

    cuts: int = 0
    runs: int = 0
    events: int = 0
    runs_lost: list[str] = field(default_factory=list)
    events_lost: list[UUID] = field(default_factory=list)
    not_arrived: list[UUID] = field(default_factory=list)
    published_again: int = 0
    arrived_twice: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Promises that were not kept."""
        return (
            len(self.runs_lost) + len(self.events_lost) + len(self.not_arrived) + len(self.broken)
        )

    def __iadd__(self, other: "Findings") -> Self:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def __str__(self) -> str:
        return (
            f"{self.cuts} cuts; {self.runs} runs and {self.events} events were answered; lost:"
            f" {len(self.runs_lost)} runs, {len(self.events_lost)} events,"
            f" {len(self.not_arrived)} not at a consumer; other promises broken:"
            f" {len(self.broken)}; published again {self.published_again},"
            f" arrived more than once {self.arrived_twice}"
        )


@dataclass(slots=True)
class Trial:
    """A gateway whose PostgreSQL and NATS lie on disks of their own, and what asks it.

    Attributes
    ----------
    database, broker
        The servers.
    gateway_url
        The gateway.
    """

    database: Server
    broker: Server
    gateway_url: str
    report: faults.Report = field(default_factory=faults.Report)
    committed: set[UUID] = field(default_factory=set)
    findings: Findings = field(default_factory=Findings)
    consumer: Consumer = field(init=False)
    published_again: int = 0
    forgetful: bool = False

    def __post_init__(self) -> None:
        self.consumer = Consumer(self.broker.addresses.nats_url)

    @property
    def database_url(self) -> str:
        """The gateway's database."""
        return self.database.addresses.database_url

    async def cut(self, *victims: Server, seconds: float) -> None:
        """Load everything for a while, and cut the power of some servers in the middle of it."""
        async with self._load():
            await asyncio.sleep(seconds)
            for victim in victims:
                await victim.cut()
                self.findings.cuts += 1
            await until_ready(self.gateway_url)
        await self._drained()
        await self.consumer.catch_up()

    async def audit(self) -> Findings:
        """Look at every promise."""
        found, self.findings = self.findings, Findings()
        report, self.report = self.report, faults.Report()
        committed, self.committed = self.committed, set()
        found.runs, found.events = len(report.answers), len(committed)
        connection = await asyncpg.connect(self.database_url)
        try:
            runs = {row[0] for row in await connection.fetch("SELECT id::text FROM runs")}
            told = await connection.fetch(
                "SELECT id, subject, event ->> 'subject' AS run FROM outbox"
            )
        finally:
            await connection.close()
        found.runs_lost = sorted(set(report.answers) - runs)
        kept = {row["id"] for row in told}
        found.events_lost = sorted(committed - kept)
        event_of = {row["run"]: row["id"] for row in told if row["subject"] != SUBJECT}
        due = committed & kept
        for run_id in set(report.answers) & runs:
            if run_id in event_of:
                due.add(event_of[run_id])
            else:
                found.broken.append(f"run {run_id} has no event")
        there = await on_stream(self.broker.addresses.nats_url)
        found.not_arrived = sorted(
            one for one in due if one not in there or one not in self.consumer.seen
        )
        found.arrived_twice = sum(self.consumer.seen.get(one, 0) > 1 for one in due)
        before, self.published_again = self.published_again, await self._published_again()
        found.published_again = self.published_again - before
        if not (found.lost or self.forgetful):
            # The same promises as under `kill -9`: detections, their number, one event a run.
            await faults.audit(self.database_url, self.broker.addresses.nats_url, report)
        found.broken += report.broken
        return found

    async def forget_places(self) -> None:
        """Let the outbox be as it was before it noted where an event came to lie."""
        self.forgetful = True
        connection = await asyncpg.connect(self.database_url)
        await connection.execute(_FORGET)
        await connection.close()

    @asynccontextmanager
    async def _load(self) -> AsyncIterator[None]:
        async with (
            faults.load(self.gateway_url, self.report, clients=2),
            events_written(self.database_url, self.committed),
        ):
            yield

    async def _drained(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        connection = await asyncpg.connect(self.database_url)
        try:
            while await connection.fetchval(
                "SELECT count(*) FROM outbox WHERE published_at IS NULL"
            ):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"events still wait after {_PATIENCE:g} s")
                await asyncio.sleep(0.1)
        finally:
            await connection.close()

    async def _published_again(self) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{self.gateway_url}/metrics")).text
        (value,) = (
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "astrotriton_outbox_repeated_events_total"
        )
        return int(value)


@asynccontextmanager
async def trial(triton: str, repository: Path, folder: Path) -> AsyncIterator[Trial]:
    """A gateway served by a Triton that there is, with a PostgreSQL and a NATS on disks of theirs.

    Parameters
    ----------
    triton
        ``host:port`` of its gRPC service.
    repository
        What it serves from.
    folder
        An empty one.
    """
    async with (
        on_a_disk(postgres, "postgres", folder, 2048) as database,
        on_a_disk(nats, "nats", folder, 2048) as broker,
        gateway(
            triton,
            repository,
            database.addresses.database_url,
            broker.addresses.nats_url,
            int(broker.addresses.gateway_url.rpartition(":")[2]),
            folder / "gateway.log",
        ) as url,
    ):
        yield Trial(database, broker, url)


def nats_that_syncs_seldom(site: Site) -> Part:
    """NATS as it is unless told otherwise: it acknowledges first and syncs every two minutes."""
    part = nats(site)
    config = site.folder("nats") / "nats.conf"
    text = config.read_text()
    seldom = text.replace("sync_interval: always", "")
    if seldom == text:
        raise RuntimeError(f"{config} does not ask for a sync")
    config.write_text(seldom)
    return part


def postgres_that_syncs_later(site: Site) -> Part:
    """PostgreSQL that answers for a commit before it has synced it."""
    part = postgres(site)
    # The delay is 0.2 s otherwise, which a cut does not always meet.
    settings = ("-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s")
    return replace(part, command=[*part.command, *settings])


def moments(seed: int, shortest: float = 0.3, longest: float = 2.0) -> Callable[[], float]:
    """Seconds of load before the next cut, anew at each call."""
    choose = random.Random(seed)
    return lambda: choose.uniform(shortest, longest)
