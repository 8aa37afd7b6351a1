"""Many exposures through one gateway: several at once, each once, whatever is interrupted.

The folder of answers has one JSON file for each exposure and a ledger, ``night.jsonl``, with a line
for each attempt. Whoever starts again with the same folder scores what the ledger does not call
done; the gateway's idempotency keys see to it that nothing is scored twice even if the ledger lost
its last lines.
"""

import asyncio
import glob
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec

from astrotriton.client.asynchronous import AsyncClient
from astrotriton.client.calls import Options, is_reference
from astrotriton.client.errors import ClientError
from astrotriton.client.ledger import Ledger, LedgerEntry, NightError
from astrotriton.wire.columns import CREATOR
from astrotriton.wire.exposures import COMPANIONS
from astrotriton.wire.runs import InferRequest

#: Names of files that a folder is searched for.
SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.bz2", ".fits.fz", ".fz", ".npy")
_BLOCK = 2880  # bytes of a FITS header's first block
_SETTLED = 2.0  # seconds for which a file that is still being written does not grow

#: What `score_night` tells: an exposure, and what became of it.
Listener = Callable[[LedgerEntry], None]


@dataclass(slots=True)
class Night:
    """What became of the exposures.

    Attributes
    ----------
    done, failed
        Their lines of the ledger, in the order of their ends.
    skipped
        How many were done before.
    answers
        The file of each exposure's answer in the folder, by the exposure: of those that are done
        now, and of those that were before.
    under_way
        Exposures that were sent and not answered when the night was interrupted.
    background
        Those of them that the gateway scores in the background, with the run of each: these go on.
    """

    done: list[LedgerEntry] = field(default_factory=list)
    failed: list[LedgerEntry] = field(default_factory=list)
    skipped: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)
    background: dict[str, UUID] = field(default_factory=dict)


def exposures_of(given: Iterable[str]) -> list[str]:
    """The exposures that paths stand for, each once.

    A table of detections that astrotriton wrote into a folder is no exposure, and left out.

    Parameters
    ----------
    given
        Files, folders, glob patterns, ``@list`` (a text file with one of these a line) and
        ``s3://bucket/key``.

    Raises
    ------
    NightError
        If one stands for nothing.
    """
    found: dict[str, None] = {}
    for one in given:
        for path in _expanded(one):
            if not _is_own(Path(path)):
                found[path] = None
    return list(found)


def _expanded(given: str) -> Sequence[str]:
    if is_reference(given):
        return [given]
    if given.startswith("@"):
        try:
            lines = Path(given[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NightError(f"{given[1:]}: the list cannot be read ({error})") from None
        return exposures_of(line.strip() for line in lines if line.strip() and line[0] != "#")
    path = Path(given)
    if path.is_dir():
        names = _in_folder(path)
        if not names:
            raise NightError(f"{given}: the folder has no file named {', '.join(SUFFIXES)}")
        return names
    if path.exists():
        return [given]
    # A shell's patterns, which `Path.glob` takes only below a folder.
    if names := sorted(glob.glob(given, recursive=True)):  # noqa: PTH207
        return names
    raise NightError(f"{given}: there is no such file, folder or pattern")


def _in_folder(folder: Path) -> list[str]:
    return sorted(
        str(path)
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and path.is_file()
    )


def _is_own(path: Path) -> bool:
    """Whether a file is a table of detections that astrotriton wrote, by its first header."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            block = file.read(_BLOCK)
    except OSError:
        return False  # Who scores it is told why.
    cards = [block[start : start + 80] for start in range(0, len(block), 80)]
    return cards[0].startswith(b"SIMPLE  =") and any(
        card.startswith(f"CREATOR = '{CREATOR}'".encode()) for card in cards
    )


async def arrivals(
    folder: Path, pause: float, stop: asyncio.Event | None = None
) -> AsyncIterator[str]:
    """Exposures of a folder as they arrive there, each once it has ceased to grow.

    Parameters
    ----------
    folder
        Is looked at by its names, so that it may lie on a network's file system.
    pause
        Seconds between two looks.
    stop
        Ends it; without one it never ends.
    """
    seen: dict[str, tuple[int, float]] = {}
    given: set[str] = set()
    while stop is None or not stop.is_set():
        for name in _in_folder(folder):
            if name in given:
                continue
            try:
                size = Path(name).stat().st_size
            except FileNotFoundError:
                continue
            now = time.monotonic()
            if name not in seen or seen[name][0] != size:
                seen[name] = (size, now)
            elif now - seen[name][1] >= _SETTLED:
                given.add(name)
                if not _is_own(Path(name)):
                    yield name
        await asyncio.sleep(pause)


async def score_night(
    client: AsyncClient,
    exposures: Iterable[str] | AsyncIterator[str],
    folder: Path,
    request: InferRequest | None = None,
    *,
    jobs: int = 4,
    planes: dict[str, str] | None = None,
    on_end: Listener = lambda entry: None,
    on_progress: Callable[[str, float], None] = lambda exposure, share: None,
    night: Night | None = None,
) -> Night:
    """Score exposures, and keep an answer for each.

    Parameters
    ----------
    client
        Of the gateway.
    exposures
        Paths, and URIs that the gateway reads.
    folder
        Keeps the answers and the ledger; it is made if it is missing.
    request
        How to score each.
    jobs
        How many are on their way at once.
    planes
        Where the ``mask``, ``weight``, ``psf``, ``science``, ``template`` or ``candidates`` of an
        exposure lie: paths, in which ``{folder}``, ``{stem}`` and ``{name}`` stand for those of the
        exposure.
    on_end
        Is told of each exposure that has ended.
    on_progress
        Is told of an exposure that is scored in the background, and of the share of its tiles that
        the network has answered.
    night
        Is filled as it goes, so that it says what was done when the caller is interrupted.

    Raises
    ------
    NightError
        If the folder cannot be made, its ledger is none, or a path of ``planes`` has other names in
        braces.
    """
    options_of("", planes or {})
    night = night or Night()
    ledger = Ledger(folder)
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=2 * jobs)

    async def feed() -> None:
        if isinstance(exposures, AsyncIterator):
            async for one in exposures:
                await queue.put(one)
        else:
            for one in exposures:
                await queue.put(one)
        for _ in range(jobs):
            await queue.put(None)

    async def work() -> None:
        while (exposure := await queue.get()) is not None:
            entry = await _one(client, exposure, ledger, request, planes or {}, night, on_progress)
            if entry is None:
                night.skipped += 1
                continue
            ledger.add(entry)
            (night.done if entry.status == "done" else night.failed).append(entry)
            on_end(entry)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        for _ in range(jobs):
            group.create_task(work())
    return night


async def _one(
    client: AsyncClient,
    exposure: str,
    ledger: Ledger,
    request: InferRequest | None,
    planes: dict[str, str],
    night: Night,
    on_progress: Callable[[str, float], None],
) -> LedgerEntry | None:
    """Score one exposure; None if that is done."""
    began, digest = time.monotonic(), ""

    def in_background(run: UUID, share: float) -> None:
        night.background[exposure] = run
        on_progress(exposure, share)

    try:
        options = options_of(exposure, planes)
        digest = await asyncio.to_thread(_digest, exposure, options, request)
        if (name := ledger.answer_to(exposure, digest)) is not None:
            night.answers[exposure] = name
            return None
        options["idempotency_key"] = f"night-{digest}"
        night.under_way.append(exposure)
        answer = await client.score(exposure, request, on_progress=in_background, **options)
        name = ledger.keep(exposure, digest, answer)
    except (ClientError, OSError, ValueError) as error:
        if exposure in night.under_way:
            night.under_way.remove(exposure)
        night.background.pop(exposure, None)
        return LedgerEntry(
            exposure=exposure,
            digest=digest,
            status="failed",
            seconds=round(time.monotonic() - began, 3),
            reason=str(error),
        )
    night.under_way.remove(exposure)
    night.background.pop(exposure, None)
    night.answers[exposure] = name
    return LedgerEntry(
        exposure=exposure,
        digest=digest,
        status="done",
        answer=name,
        run_id=answer.run_id,
        detections=len(answer.detections),
        real=sum(one.is_real for one in answer.detections),
        seconds=round(time.monotonic() - began, 3),
    )


def options_of(exposure: str, planes: dict[str, str]) -> Options:
    """The further files of an exposure, by the names that patterns make of its own.

    Parameters
    ----------
    exposure
        Path of the exposure.
    planes
        By plane, a path in which ``{folder}``, ``{stem}`` and ``{name}`` are filled in.

    Raises
    ------
    NightError
        If a pattern has other names in braces.
    """
    folder, _, name = exposure.rpartition("/")
    stem = name.partition(".")[0]
    options: Options = {}
    for plane, pattern in planes.items():
        try:
            where = pattern.format(folder=folder or ".", stem=stem, name=name)
        except (KeyError, IndexError, ValueError):
            raise NightError(
                f"--{plane} {pattern}: {{folder}}, {{stem}} and {{name}} can be filled in"
            ) from None
        options[plane] = where  # type: ignore[literal-required]
    return options


def _digest(exposure: str, options: Options, request: InferRequest | None) -> str:
    """SHA-256 of the content of all files, of a URI its name, and of the request."""
    whole = hashlib.sha256(msgspec.json.encode(request))
    for name, file in [("exposure", exposure), *((one, str(at)) for one, at in options.items())]:
        if name in COMPANIONS:  # The others are told apart by their order.
            whole.update(name.encode())
        if is_reference(file):
            part = file.encode()
        else:
            with Path(file).open("rb") as stream:
                part = hashlib.file_digest(stream, "sha256").digest()
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()
