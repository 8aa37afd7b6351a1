"""The main job, shown once from end to end for one exposure, on real servers."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import nats
from rich.console import Console

from astrotriton.client import AsyncClient, ClientError, InferRequest
from astrotriton.detection.image.exposure import mute_astropy, read_exposure
from astrotriton.detection.quality.evaluation import MATCH_RADIUS
from astrotriton.one_machine.bringup import bring_up, repository_of
from astrotriton.one_machine.picture import draw
from astrotriton.simulation.truth import Source
from astrotriton.stack import (
    Addresses,
    Stack,
    StackError,
    cancel_on_signals,
    end_with_parent,
    running,
)
from astrotriton.table import remarks, table, wide_console
from astrotriton.training.exposures import demo_field, to_fits

_ARTEFACT_RADIUS = 8.0  # pixels; artefacts are larger than transients
_EVENT_PATIENCE = 20.0


class DemoError(Exception):
    """The demo could not be finished; the message names the part that failed."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is scored: its name, its file, and the truth if it was simulated."""

    name: str
    content: bytes
    truth: list[Source]


async def run(data: Path, image: Path | None, out: Path) -> None:
    """Run the demo.

    Parameters
    ----------
    data
        Folder that the servers keep their state in, from one run to the next.
    image
        FITS or .npy file to score; None for a simulated difference exposure.
    out
        Folder that receives ``detections.json`` and ``detections.png``.

    Raises
    ------
    DemoError
        If a part fails, or does not do what the demo is to show.
    """
    cancel_on_signals()
    end_with_parent()
    mute_astropy()
    console = wide_console()
    started = time.monotonic()

    def on_progress(part: str, what: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {part:<8}  {what}")

    exposure = _exposure(image)
    try:
        async with _serving(data, on_progress) as addresses:
            await _show(addresses, exposure, out, console, on_progress)
    except StackError as error:
        raise DemoError(str(error)) from error
    except ExceptionGroup as group:
        raise DemoError("; ".join(str(error) for error in group.exceptions)) from group
    console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  done")


def _exposure(image: Path | None) -> Exposure:
    if image is not None:
        return Exposure(image.name, image.read_bytes(), [])
    field = demo_field()
    return Exposure("simulated.fits", to_fits(field), field.truth)


@contextlib.asynccontextmanager
async def _serving(data: Path, on_progress: Any) -> AsyncIterator[Addresses]:
    """The stack that `make up` keeps serving, or else one for the time of the demo."""
    if (addresses := running(data)) is not None:
        on_progress("stack", "using the one that `make up` started")
        yield addresses
        return
    async with Stack(data, repository_of(data), on_progress=on_progress) as stack:
        await bring_up(stack)
        yield stack.addresses


async def _show(
    addresses: Addresses, exposure: Exposure, out: Path, console: Console, on_progress: Any
) -> None:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: Any) -> None:
        await arrived.put(message.data)

    listener = await nats.connect(addresses.nats_url)
    try:
        await listener.subscribe("detection.scored", cb=take)
        await listener.flush()
        on_progress("gateway", f"scoring {exposure.name}")
        content = await _infer(addresses, exposure)
        answer = json.loads(content)
        event = await _event_of(arrived, answer["run_id"])
        rows, published = await _stored(addresses, answer["run_id"], event["id"])
    finally:
        await listener.close()

    out.mkdir(parents=True, exist_ok=True)
    (out / "detections.json").write_bytes(content)
    if exposure.truth:
        (out / "exposure.fits").write_bytes(exposure.content)
    transients = [source for source in exposure.truth if source.kind == "transient"]
    draw(
        read_exposure(exposure.content),
        answer["detections"],
        out / "detections.png",
        title=f"{exposure.name}: {answer['model']['name']} {answer['model']['version']}",
        truth=[(source.x, source.y) for source in transients],
    )
    truth = partial(_truth_at, exposure.truth) if exposure.truth else None
    console.print(table(answer, truth))
    for line in remarks(answer):
        console.print(line, style="yellow", markup=False)
    _summary(console, answer, transients)
    console.print(f"database   {rows} rows in detections for run {answer['run_id']}")
    console.print(
        f"event      {event['type']} {event['id']} received from NATS;"
        f" in the outbox {'marked as published' if published else 'not yet marked'}"
    )
    console.print(f"picture    {out / 'detections.png'}")
    console.print(f"answer     {out / 'detections.json'}")
    if exposure.truth:
        console.print(f"exposure   {out / 'exposure.fits'}")
    if rows != len(answer["detections"]):
        raise DemoError(
            f"postgres holds {rows} detections of the run,"
            f" {len(answer['detections'])} were answered"
        )


async def _infer(addresses: Addresses, exposure: Exposure) -> bytes:
    request = InferRequest(exposure_id=exposure.name)
    try:
        async with AsyncClient(addresses.gateway_url) as client:
            return await client.score_as("json", exposure.content, request)
    except ClientError as error:
        raise DemoError(f"gateway does not score {exposure.name}: {error}") from error


async def _event_of(arrived: asyncio.Queue[bytes], run_id: str) -> dict[str, Any]:
    """The event of this run; on a shared stack others may come first."""
    try:
        async with asyncio.timeout(_EVENT_PATIENCE):
            while True:
                event: dict[str, Any] = json.loads(await arrived.get())
                if event["subject"] == run_id:
                    return event
    except TimeoutError:
        raise DemoError(
            f"nats: no detection.scored of run {run_id} came within {_EVENT_PATIENCE:.0f} s"
        ) from None


async def _stored(addresses: Addresses, run_id: str, event_id: str) -> tuple[int, bool]:
    """How many detections the database holds for the run, and whether its event is published."""
    database = await asyncpg.connect(addresses.database_url)
    try:
        rows = await database.fetchval("SELECT count(*) FROM detections WHERE run_id = $1", run_id)
        # The mark follows the acknowledgement, so it can come a moment after the event itself.
        for _ in range(50):
            published = await database.fetchval(
                "SELECT published_at IS NOT NULL FROM outbox WHERE id = $1", event_id
            )
            if published:
                break
            await asyncio.sleep(0.1)
        return int(rows), bool(published)
    finally:
        await database.close()


def _summary(console: Console, answer: dict[str, Any], transients: list[Source]) -> None:
    real = [d for d in answer["detections"] if d["is_real"]]
    text = f"detections {len(real)} called real, of {len(answer['detections'])} scored"
    if transients:
        found = sum(
            any((d["x"] - s.x) ** 2 + (d["y"] - s.y) ** 2 <= MATCH_RADIUS**2 for d in real)
            for s in transients
        )
        text += f"; {found} of {len(transients)} true transients are among them"
    console.print(text)


def _truth_at(truth: Sequence[Source], detection: dict[str, Any]) -> str:
    def distance(source: Source) -> float:
        return float(((source.x - detection["x"]) ** 2 + (source.y - detection["y"]) ** 2) ** 0.5)

    transient = min((s for s in truth if s.kind == "transient"), key=distance)
    if distance(transient) <= MATCH_RADIUS:
        return f"transient, SNR {transient.snr:.1f}"
    nearest = min((s for s in truth if s.kind != "transient"), key=distance)
    return nearest.kind.replace("_", " ") if distance(nearest) <= _ARTEFACT_RADIUS else "nothing"
