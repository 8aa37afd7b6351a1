"""Readers that are ready, and what they are asked for."""

import asyncio
import hashlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NoReturn, ParamSpec, TypeVar

import msgspec
import numpy as np

from astrotriton.detection.arrays import Buffer, Image, Values
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Exposure, Limits
from astrotriton.detection.image.planes import PLANE_FIELDS, OpenPlanes, Planes
from astrotriton.detection.image.reading import Place, rebuilt
from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.observability.metrics import (
    READER_ENDS,
    READERS,
    observe_memory,
)
from astrotriton.gateway.readers.messages import (
    Answer,
    Fork,
    FromIcrs,
    ImageRead,
    LabelledRead,
    Positions,
    ReadImage,
    ReadLabelled,
    ReadTable,
    Refused,
    Request,
    TableRead,
    ToIcrs,
    Unforeseen,
)
from astrotriton.gateway.readers.process import ForkServer, Reader, ReaderGoneError, own_memory
from astrotriton.wire.detections import CandidateIn
from astrotriton.wire.exposures import Observation
from astrotriton.wire.flags import Flag

P = ParamSpec("P")
T = TypeVar("T")

# Bytes that a reader takes in for each second that it gets beyond those that every file gets.
_PACE = 5e6
# How often a request begins anew because the fork server ended, and its readers with it.
_SERVERS = 3
# Refusals before anything that is written in C has seen the file.
_HARMLESS = frozenset({"not-fits", "unreadable-npy", "no-image", "no-such-hdu", "wrong-dimensions"})

_log = logging.getLogger(__name__)


class Readers:
    """Lends readers to requests.

    A reader is lent to one request at a time, for as long as that needs it. It is used again if
    all that it read was in order: one that met a broken file, or has answered many, is ended.

    Parameters
    ----------
    most
        Readers at a time.
    uses
        How often one is lent.
    memory
        Bytes that one may take to read a file.
    seconds
        Of processor time for a file, and a fifth of one more for each million bytes.
    room
        Bytes that the files of a request may have.
    filtered
        Whether system calls are filtered where that is possible.
    server
        Forks them; None: one of their own, which ends with them.
    """

    def __init__(
        self,
        *,
        most: int,
        uses: int = 100,
        memory: int = 4 * 1024**3,
        seconds: float = 3.0,
        room: int = 2 * 1024**3,
        filtered: bool = True,
        server: ForkServer | None = None,
    ) -> None:
        self._most = most
        self._uses = uses
        self._seconds = seconds
        self._how = Fork(room=room, memory=memory, files=uses, filtered=filtered)
        self._own = server is None
        self._server = server or ForkServer()
        self._turns = asyncio.Semaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._lent: set[Reader] = set()
        self._closed = False
        # One for each reader, and one that makes and ends them.
        self._threads = ThreadPoolExecutor(most + 1, thread_name_prefix="reader")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="readers")

    async def __aenter__(self) -> "Readers":
        # Nobody waits for it: a request that comes earlier waits for itself.
        self._later(self._keep_spare)
        observe_memory("gateway", lambda: own_memory(os.getpid()))
        observe_memory("readers", self._readers_memory)
        observe_memory("fork server", lambda: own_memory(self._server.pid or 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        with self._lock:
            for reader in self._lent:
                reader.interrupt()
        await asyncio.to_thread(self._end)

    @asynccontextmanager
    async def session(self) -> AsyncIterator["ReaderSession"]:
        """A reader, for as long as the block runs."""
        async with self._turns:
            session = ReaderSession(self, self._seconds)
            try:
                yield session
            finally:
                session.leave()

    def take(self, *, fresh: bool) -> Reader:
        """A reader that is ready; whoever takes it gives it back or buries it.

        Parameters
        ----------
        fresh
            Whether it must be one that has read nothing yet.

        Raises
        ------
        DependencyError
            If there is none and none can be made.
        """
        with self._lock:
            # The others have ended with their fork server.
            lost = [one for one in self._idle if one.server != self._server.pid]
            self._idle = [one for one in self._idle if one not in lost]
            known = range(len(self._idle) - 1, -1, -1)
            place = next((i for i in known if not fresh or self._idle[i].sessions == 0), None)
            reader = None if place is None else self._idle.pop(place)
        for one in lost:
            self.bury(one)
        if reader is None:
            reader = self._made()
        with self._lock:
            self._lent.add(reader)
            short = not self._idle
        self._count()
        if short:
            self._later(self._keep_spare)
        return reader

    def give_back(self, reader: Reader, *, spotless: bool) -> None:
        """Take a reader back; it is ended unless it can be lent again."""
        worn = reader.sessions >= self._uses or reader.kept >= self._uses
        if worn or not spotless:
            self._later(self.bury, reader, "worn" if worn else "suspect")
            return
        if reader.holds_much:
            self._later(self._cleared, reader)
        else:
            self._returned(reader)

    def _cleared(self, reader: Reader) -> None:
        reader.forget()
        self._returned(reader)

    def _returned(self, reader: Reader) -> None:
        with self._lock:
            self._lent.discard(reader)
            self._idle.append(reader)
        self._count()

    def bury(self, reader: Reader, why: str | None = None) -> int | None:
        """End a reader: its exit status, or the negative of the signal that ended it.

        None if it has ended with its fork server.
        """
        status = self._server.bury(reader)
        with self._lock:
            self._lent.discard(reader)
        READER_ENDS.labels(why or told(status)).inc()
        self._count()
        return status

    def run(
        self, function: Callable[P, T], /, *args: P.args, **named: P.kwargs
    ) -> "asyncio.Future[T]":
        """Call in a thread that may wait for a reader."""
        return asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: function(*args, **named)
        )

    @property
    def processes(self) -> list[int]:
        """The readers that there are."""
        with self._lock:
            return [reader.pid for reader in (*self._idle, *self._lent)]

    def _readers_memory(self) -> int:
        return sum(map(own_memory, self.processes))

    def _later(self, function: Callable[P, object], *args: P.args, **named: P.kwargs) -> None:
        if not self._closed:
            self._keeper.submit(function, *args, **named)

    def _keep_spare(self) -> None:
        """Have one ready that nobody has used, or as many as may be lent."""
        with self._lock:
            fresh = any(reader.sessions == 0 for reader in self._idle)
        if fresh or self._closed:
            return
        try:
            reader = self._made()
        except DependencyError as error:
            _log.warning("no spare reader: %s", error)
            return
        with self._lock:
            # Taken last: one that was used already is as good for most.
            self._idle.insert(0, reader)
            surplus = self._idle.pop() if len(self._idle) > self._most + 1 else None
        if surplus is not None:
            self.bury(surplus, "surplus")
        self._count()

    def _made(self) -> Reader:
        try:
            reader = self._server.fork(self._how)
            reader.wait()
        except (OSError, ReaderGoneError) as error:
            raise DependencyError("readers", f"no process that reads files: {error!r}") from error
        return reader

    def _count(self) -> None:
        READERS.labels("idle").set(len(self._idle))
        READERS.labels("lent").set(len(self._lent))

    def _end(self) -> None:
        self._keeper.shutdown(cancel_futures=True)
        for reader in (*self._idle, *self._lent):
            self._server.bury(reader)
        if self._own:
            self._server.close()
        self._threads.shutdown(cancel_futures=True)
        self._idle.clear()
        self._lent.clear()


class ReaderSession:
    """What one request has read: tables, an exposure, and positions on that.

    Parameters
    ----------
    readers
        Where it gets a reader from, when it first needs one.
    seconds
        As `Readers` has them.
    """

    def __init__(self, readers: Readers, seconds: float) -> None:
        self._readers = readers
        self._seconds = seconds
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._spotless = True
        self._left = False
        self._files: dict[str, Buffer] = {}
        self._image: ReadImage | None = None

    async def read_image(
        self,
        content: bytes,
        *,
        hdu: int | str | None,
        planes: Planes,
        observation: Observation | None,
        limits: Limits,
        cube: bool = False,
    ) -> tuple[Exposure, OpenPlanes]:
        """As the function of that name; the exposure is of use while the session lasts.

        Raises
        ------
        InputError
            If the exposure or a plane cannot be read, or reading it ends the reader.
        """
        files: dict[str, Buffer] = {"exposure": content}
        for name in PLANE_FIELDS:
            if (plane := getattr(planes, name)) is not None:
                files[name] = plane

        def read() -> tuple[Exposure, OpenPlanes]:
            self._files = files
            self._image = ReadImage(
                seconds=self._allowed(sum(map(len, files.values()))),
                files={},
                hdu=hdu,
                **{f"{field}_hdu": getattr(planes, f"{field}_hdu") for field in PLANE_FIELDS},
                observation=observation,
                limits=limits,
                cube=cube,
            )
            answer, kept = self._ask(None)
            if not isinstance(answer, ImageRead):
                self._distrust(answer)
            try:
                images = {
                    name: rebuilt(
                        one,
                        files,
                        b"" if kept is None else kept,
                        _Sky(self, one.pixel_scale),
                        limits,
                    )
                    for name, one in answer.images.items()
                }
                exposure = images.pop("exposure")
                opened = OpenPlanes(**images)
            except (KeyError, TypeError, ValueError) as error:
                self._distrust(error)
            if any(Flag.BAD_WCS in one.flags for one in answer.images.values()):
                self._spotless = False
            return exposure, opened

        return await self._readers.run(read)

    async def read_table(
        self, content: bytes, max_candidates: int, max_bytes: int
    ) -> list[CandidateIn]:
        """As `read_candidates`.

        Raises
        ------
        InputError
            As that does, or if reading it ends the reader.
        """

        def read() -> list[CandidateIn]:
            self._files = {"candidates": content}

            def request(reader: Reader) -> Request:
                return ReadTable(
                    seconds=self._allowed(len(content)),
                    file=reader.put(self._files)["candidates"],
                    max_candidates=max_candidates,
                    max_bytes=max_bytes,
                )

            answer, _ = self._ask(request)
            if not isinstance(answer, TableRead):
                self._distrust(answer)
            return answer.candidates

        return await self._readers.run(read)

    async def read_labelled(self, content: bytes) -> ValidationSet:
        """As `ValidationSet.from_fits`.

        Raises
        ------
        InputError
            ``bad-dataset`` if it is none, or as above.
        """

        def read() -> ValidationSet:
            self._files = {"dataset": content}

            def request(reader: Reader) -> Request:
                return ReadLabelled(
                    seconds=self._allowed(len(content)),
                    file=reader.put(self._files)["dataset"],
                )

            answer, kept = self._ask(request)
            if not isinstance(answer, LabelledRead):
                self._distrust(answer)

            def image(at: Place) -> Image:
                there = b"" if kept is None else kept
                return np.array(np.ndarray(at.shape, np.float32, there, at.offset))

            try:
                fields = [
                    LabelledField(
                        image(one.image),
                        Transients(
                            positions=np.array(one.positions, np.float64).reshape(-1, 2),
                            snr=np.array(one.snr, np.float64),
                            polarity=np.array(one.polarity, np.int8),
                            fwhm=np.array(one.fwhm, np.float64),
                            hosted=np.array(one.hosted, bool),
                            saturated=np.array(one.saturated, bool),
                        ),
                        {name: image(at) for name, at in one.companions.items()},
                    )
                    for one in answer.fields
                ]
            except (TypeError, ValueError, OverflowError) as error:
                self._distrust(error)
            return ValidationSet(fields, answer.description)

        return await self._readers.run(read)

    def convert(self, kind: type[ToIcrs | FromIcrs], first: Values, second: Values) -> Values:
        """Positions on the exposure in the sky, or the other way round; float64 (2, N)."""
        positions = np.ascontiguousarray([first, second], np.float64)

        def request(reader: Reader) -> Request:
            return kind(seconds=self._allowed(50 * positions.nbytes), positions=positions.tobytes())

        answer, _ = self._ask(request)
        if not isinstance(answer, Positions) or len(answer.positions) != positions.nbytes:
            self._distrust(answer)
        return np.frombuffer(answer.positions, np.float64).reshape(2, -1).copy()

    def leave(self) -> None:
        """Give the reader back. If a thread still waits for it, it is ended instead."""
        self._left = True
        if not self._lock.acquire(blocking=False):
            if (reader := self._reader) is not None:
                reader.interrupt()
            return
        try:
            if self._reader is not None:
                self._readers.give_back(self._reader, spotless=self._spotless)
                self._reader = None
        finally:
            self._lock.release()

    def _allowed(self, size: int) -> float:
        return self._seconds + size / _PACE

    def _ask(self, request: Callable[[Reader], Request] | None) -> tuple[Answer, memoryview | None]:
        """The answer to a request about the files; None: to have the exposure read."""
        with self._lock:
            try:
                return self._answered(request)
            finally:
                if self._left and self._reader is not None:
                    self._readers.give_back(self._reader, spotless=False)
                    self._reader = None

    def _answered(
        self, request: Callable[[Reader], Request] | None
    ) -> tuple[Answer, memoryview | None]:
        if self._left:
            raise RuntimeError("the session is over")
        again = False
        for _ in range(_SERVERS):
            reader = None
            try:
                reader, is_new = self._present(fresh=again)
                if self._image is not None and (is_new or request is None):
                    answer, kept = reader.ask(self._image_request(reader))
                if request is not None:
                    answer, kept = reader.ask(request(reader))
                break
            except ReaderGoneError as gone:
                assert reader is not None
                self._reader = None
                status = self._readers.bury(reader, "took too long" if gone.late else None)
                if self._left:
                    raise
                if status is None:
                    continue
                # It may have been broken by what it read before, or ended by somebody else.
                innocent = reader.sessions > 1 or (status == -signal.SIGKILL and not gone.late)
                if again or not innocent:
                    late = "took longer than a file of its size may"
                    self._refuse(gone, late if gone.late else told(status))
                again = True
            except OSError as error:
                raise DependencyError("readers", f"no memory for a file: {error}") from error
        else:
            raise DependencyError("readers", "the process that makes them ends again and again")
        if isinstance(answer, Refused):
            if answer.code not in _HARMLESS:
                self._spotless = False
            if answer.too_large:
                raise TooLargeError(answer.field, answer.detail)
            raise InputError(answer.code, answer.field, answer.detail)
        return answer, None if kept is None else memoryview(kept)

    def _present(self, *, fresh: bool) -> tuple[Reader, bool]:
        """The session's reader, and whether it knows nothing of the session yet."""
        if self._reader is not None:
            return self._reader, False
        self._reader = self._readers.take(fresh=fresh)
        self._reader.sessions += 1
        return self._reader, True

    def _image_request(self, reader: Reader) -> ReadImage:
        assert self._image is not None
        return msgspec.structs.replace(self._image, files=reader.put(self._files))

    def _refuse(self, gone: ReaderGoneError, how: str) -> NoReturn:
        field = gone.field or next(iter(self._files), "exposure")
        content = self._files.get(field, next(iter(self._files.values()), b""))
        digest = hashlib.sha256(content).hexdigest()
        _log.warning("the reader of %s, sha256 %s, %s", field, digest, how)
        raise InputError(
            "unsafe-file",
            field,
            f"the process that read the file with the SHA-256 {digest} {how}; the file is broken in"
            " a way that the FITS libraries do not survive. Write it anew, without the cards that"
            " are not needed, or send the pixels alone as .npy; if it is a valid file, report it"
            " with this digest",
        )

    def _distrust(self, said: object) -> NoReturn:
        self._spotless = False
        if isinstance(said, Unforeseen):
            raise RuntimeError(f"in a reader: {said.traceback}")
        _log.warning("a reader answered what it should not: %r", said)
        self._refuse(ReaderGoneError(""), "answered what it should not")


class _Sky:
    """What the WCS of a session's exposure says."""

    def __init__(self, session: ReaderSession, pixel_scale: float | None) -> None:
        self._session = session
        self.pixel_scale = pixel_scale

    def to_icrs(self, x: Values, y: Values) -> Values:
        return self._session.convert(ToIcrs, x, y)

    def from_icrs(self, ra: Values, dec: Values) -> Values:
        return self._session.convert(FromIcrs, ra, dec)


def told(status: int | None) -> str:
    """How a process ended, in a word or two."""
    if status is None:
        return "ended with its fork server"
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return "took too long" if name == "SIGXCPU" else f"was ended by {name}"
