"""The gateway's side of readers: the fork server, and each reader it forked."""

import fcntl
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from astrotriton.detection.arrays import Buffer
from astrotriton.detection.errors import TooLargeError
from astrotriton.gateway.readers.messages import (
    ANSWERS,
    REPORTS,
    Answer,
    Begun,
    Bury,
    Ended,
    Fork,
    Reading,
    Ready,
    Request,
    Span,
    receive,
    send,
)

_ALIGNED = 4096  # bytes
# Seconds in which a fork server must have begun; it imports Astropy, from a cold disk perhaps.
_START = 120.0
# Of waiting for an answer, for one of processor time, and more for a machine that is busy.
_PATIENCE, _GRACE = 10.0, 60.0
# What a reader may keep of the memory that files were put into, for the next ones.
_KEPT = 64 * 1024 * 1024
# What a program needs to find its libraries, and its allocator; nothing else is passed on.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES")

_log = logging.getLogger(__name__)


class ReaderGoneError(Exception):
    """A reader that has ended, or must, instead of answering.

    Parameters
    ----------
    field
        The file that it was reading.
    late
        Whether it took too long.
    """

    def __init__(self, field: str, *, late: bool = False) -> None:
        super().__init__(field)
        self.field = field
        self.late = late


class ForkServer:
    """Starts readers, each within some milliseconds. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def fork(self, how: Fork) -> "Reader":
        """A new reader; the fork server is started where it is not there.

        Raises
        ------
        OSError
            If that cannot be done.
        """
        with self._lock:
            try:
                return self._forked(self._connected(), how)
            except (EOFError, OSError, ValueError) as error:
                _log.warning("the fork server of readers is started anew: %r", error)
                self._end()
            try:
                return self._forked(self._connected(), how)
            except (EOFError, ValueError) as error:
                raise OSError(f"no reader could be made: {error!r}") from error

    def bury(self, reader: "Reader") -> int | None:
        """End a reader, if it is there, and say how it ended: as `Ended` has it.

        None if it has ended with its fork server, so that nobody knows.
        """
        reader.close()
        with self._lock:
            if self._process is None or self._process.pid != reader.server:
                return None
            try:
                report = self._asked(self._connected(), Bury(reader.pid))
                if isinstance(report, Ended):
                    return report.status
            except (EOFError, OSError, ValueError) as error:
                _log.warning("the fork server of readers is gone: %r", error)
            self._end()
            return None

    def close(self) -> None:
        """End it, and with it all readers."""
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """Its process, if there is one."""
        return None if self._process is None else self._process.pid

    def _connected(self) -> socket.socket:
        if self._connection is not None:
            return self._connection
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "HOME": "/nonexistent", "OPENBLAS_NUM_THREADS": "1"}
        # It imports from where this process does, wherever that is, and from nowhere else.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-s", "-P", "-m", "astrotriton.gateway.readers.forkserver"]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._connection = ours
        ours.settimeout(_START)
        receive(ours, REPORTS)
        ours.settimeout(_GRACE)
        return ours

    def _forked(self, connection: socket.socket, how: Fork) -> "Reader":
        assert self._process is not None
        ours, theirs = socket.socketpair()
        with theirs:
            send(connection, how, theirs.fileno())
        begun, _ = receive(connection, REPORTS)
        if not isinstance(begun, Begun):
            raise ValueError(f"answered {begun}")
        return Reader(begun.pid, self._process.pid, ours, how.room)

    def _asked(self, connection: socket.socket, command: Bury) -> Begun | Ended:
        send(connection, command)
        return receive(connection, REPORTS)[0]

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Reader:
    """One reader; it answers one request at a time.

    Attributes
    ----------
    pid, server
        Its process, and its fork server's.
    sessions
        How often it was lent.
    confined_by
        What keeps it where it is; see `sandbox.confine`.
    """

    def __init__(self, pid: int, server: int, connection: socket.socket, room: int) -> None:
        self.pid = pid
        self.server = server
        self.sessions = 0
        self.kept = 0
        self.confined_by = "?"
        self._connection = connection
        self._room = room
        self._filled = 0
        self._files = os.memfd_create("files", os.MFD_CLOEXEC)
        try:
            # Room alone: no memory is taken before something is put there.
            os.ftruncate(self._files, room)
            connection.settimeout(_GRACE)
            socket.send_fds(connection, [b"\0"], [self._files])
        except OSError:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until it is ready.

        Raises
        ------
        ReaderGoneError
            If it is not.
        """
        ready, _ = self._receive("", _GRACE)
        if isinstance(ready, Ready):
            self.confined_by = ready.confined_by

    def put(self, files: dict[str, Buffer]) -> dict[str, Span]:
        """Copy files to where it can read them.

        Raises
        ------
        TooLargeError
            If there is no room for them.
        """
        spans: dict[str, Span] = {}
        end = 0
        for name, content in files.items():
            start = -(-end // _ALIGNED) * _ALIGNED
            end = start + len(content)
            if end > self._room:
                raise TooLargeError(name, f"{end} bytes of files; at most {self._room} are taken")
            view, done = memoryview(content), 0
            while done < len(view):
                done += os.pwrite(self._files, view[done:], start + done)
            spans[name] = Span(start, len(content))
        self._filled = max(self._filled, end)
        return spans

    def ask(self, request: Request) -> tuple[Answer, mmap.mmap | None]:
        """What it answers, and the memory that came along.

        Raises
        ------
        ReaderGoneError
            If it ends instead, takes too long, or answers what it should not.
        """
        patience = _GRACE + _PATIENCE * request.seconds
        try:
            self._connection.settimeout(patience)
            send(self._connection, request)
        except OSError as error:
            raise ReaderGoneError("") from error
        field = ""
        while True:
            answer, file = self._receive(field, patience)
            if not isinstance(answer, Reading):
                break
            field = answer.field
        if file is None:
            return answer, None
        self.kept += 1
        try:
            return answer, _mapped(file, getattr(answer, "kept", 0))
        except (OSError, ValueError) as error:
            raise ReaderGoneError(field) from error
        finally:
            os.close(file)

    @property
    def holds_much(self) -> bool:
        """Whether files that it was sent still take more memory than is worth keeping."""
        return self._filled > _KEPT

    def forget(self) -> None:
        """Give back the memory that files were put into."""
        os.ftruncate(self._files, 0)
        os.ftruncate(self._files, self._room)
        self._filled = 0

    def close(self) -> None:
        """Close what is open to it: one that waits for requests ends then."""
        self._connection.close()
        if self._files >= 0:
            os.close(self._files)
            self._files = -1

    def interrupt(self) -> None:
        """Have whoever waits for its answer wait no more."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _receive(self, field: str, patience: float) -> tuple[Answer, int | None]:
        try:
            return receive(self._connection, ANSWERS)
        except TimeoutError as error:
            raise ReaderGoneError(field, late=True) from error
        except (EOFError, OSError, ValueError, msgspec.DecodeError) as error:
            raise ReaderGoneError(field) from error


def own_memory(pid: int) -> int:
    """Bytes that a process has and does not share with others; 0 if there is none."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def _mapped(file: int, size: int) -> mmap.mmap | None:
    """The memory of a file, which can get no smaller any more: that would end this process."""
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    if size > os.fstat(file).st_size:
        raise ValueError(f"{size} bytes are said to be in {os.fstat(file).st_size}")
    return mmap.mmap(file, size, prot=mmap.PROT_READ) if size else None
