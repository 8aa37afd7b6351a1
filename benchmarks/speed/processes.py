"""CPU time and memory of processes; and servers that run in a group of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

#: Processes by what they are, such as ``gateway`` or ``stub``.
Processes = Mapping[str, Sequence[psutil.Process]]

_PATIENCE = 180.0
_GRACE = 15.0


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def of_triton(processes: Sequence[psutil.Process]) -> dict[str, list[psutil.Process]]:
    """Triton's server, and the stubs that the model's instances run in."""
    stubs = [process for process in processes if process.name().startswith("triton_python")]
    return {"triton": [one for one in processes if one not in stubs], "stubs": stubs}


def cpu_seconds(processes: Processes) -> dict[str, float]:
    """CPU time spent so far, by what the processes are; that of children that ended included."""
    spent = {}
    for name, ones in processes.items():
        spent[name] = 0.0
        for process in ones:
            with contextlib.suppress(psutil.Error):
                spent[name] += sum(process.cpu_times()[:4])
    return spent


def forget_peaks(processes: Processes) -> None:
    """Let the peaks of memory begin anew."""
    for process in _all(processes):
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_memory(processes: Processes) -> int:
    """Bytes: the sum of each process's largest resident memory since `forget_peaks`.

    What processes share is in each of them.
    """
    peak = 0
    for process in _all(processes):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak += int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return peak


def _all(processes: Processes) -> list[psutil.Process]:
    return [process for ones in processes.values() for process in ones]


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server in a process group of its own.

    Parameters
    ----------
    command
        Starts it.
    ready
        Raises an `OSError` for as long as it does not answer.
    folder
        Its working directory; its output goes to ``server.log`` there.
    environment
        What it gets beside this process's own.

    Raises
    ------
    RuntimeError
        If it ends, or is not ready in time; with the end of its output.
    """

    def __init__(
        self,
        command: Sequence[str],
        ready: Callable[[], None],
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._log = folder / "server.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        try:
            self._wait(ready)
        except BaseException:
            self.stop()
            raise

    def _wait(self, ready: Callable[[], None]) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                ready()
            except OSError as error:
                if self._process.poll() is not None:
                    raise RuntimeError(f"ended while it started: {self._last_words()}") from error
                if time.monotonic() > end:
                    raise RuntimeError(f"not ready in {_PATIENCE:g} s: {error}") from error
                time.sleep(0.5)
            else:
                return

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        return tree(psutil.Process(self._process.pid))

    def stop(self) -> None:
        """End it and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
