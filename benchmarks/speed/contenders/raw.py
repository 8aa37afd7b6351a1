"""The limit: ONNX Runtime on tiles that are normalised already, and nothing around it."""

import multiprocessing
import queue
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np
import onnxruntime
import psutil
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.exposures import Exposure
from benchmarks.speed.processes import Processes, tree

_SGEMM = 2048


def session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session as Triton's instance makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def infer(network: onnxruntime.InferenceSession, tiles: NDArray[np.float32]) -> None:
    """Show a network tiles, one after the other: on a CPU a batch is no faster."""
    name = network.get_inputs()[0].name
    for tile in tiles:
        network.run(None, {name: tile[None]})


class RawThreads(Contender):
    """Sessions in this process, each of which does one exposure at a time.

    Parameters
    ----------
    content
        The ONNX file.
    sessions, threads
        How many, and how many threads each has.
    """

    def __init__(
        self, exposures: Sequence[Exposure], content: bytes, *, sessions: int, threads: int
    ) -> None:
        self.key = f"raw_{sessions}x{threads}"
        many = "one session" if sessions == 1 else f"{sessions} sessions"
        self.title = f"ONNX Runtime alone, {many} of {threads} thread{'s'[: threads - 1]}"
        super().__init__(exposures)
        self._content, self._sessions, self._threads = content, sessions, threads
        self._free: queue.SimpleQueue[onnxruntime.InferenceSession] = queue.SimpleQueue()

    def start(self) -> None:
        """Make the sessions."""
        for _ in range(self._sessions):
            self._free.put(session(self._content, self._threads))

    def score(self, exposure: Exposure) -> None:
        """Show the next free session the exposure's tiles."""
        network = self._free.get()
        try:
            infer(network, exposure.tiles)
        finally:
            self._free.put(network)


class RawProcesses(Contender):
    """One session of one thread in each of several processes.

    Parameters
    ----------
    content
        The ONNX file.
    processes
        How many.
    """

    def __init__(self, exposures: Sequence[Exposure], content: bytes, *, processes: int) -> None:
        self.key = f"raw_{processes}_processes"
        self.title = f"ONNX Runtime alone, {processes} processes of one thread"
        super().__init__(exposures)
        self._content, self._count = content, processes
        self._free: queue.SimpleQueue[Connection[int, None]] = queue.SimpleQueue()
        self._workers: list[multiprocessing.process.BaseProcess] = []

    def start(self) -> None:
        """Start the processes; each has the tiles already when it is asked."""
        context = multiprocessing.get_context("spawn")
        tiles = [exposure.tiles for exposure in self.exposures]
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, self._content, tiles), daemon=True)
            worker.start()
            self._workers.append(worker)
            ours.recv()
            self._free.put(ours)

    def score(self, exposure: Exposure) -> None:
        """Tell the next free process which exposure it is."""
        worker = self._free.get()
        worker.send(self.exposures.index(exposure))
        worker.recv()
        self._free.put(worker)

    def processes(self) -> Processes:
        """The workers."""
        found = [tree(psutil.Process(worker.pid)) for worker in self._workers]
        return {"worker": [process for one in found for process in one]}

    def stop(self) -> None:
        """End the processes."""
        super().stop()
        for worker in self._workers:
            worker.terminate()
            worker.join()


def _work(
    asked: "Connection[None, int]", content: bytes, tiles: Sequence[NDArray[np.float32]]
) -> None:
    network = session(content, 1)
    while True:
        asked.send(None)
        infer(network, tiles[asked.recv()])


def sgemm_gflops(seconds: float = 1.0) -> float:
    """Billions of operations a second that OpenBLAS multiplies matrices with, on all cores."""
    a, b = np.random.default_rng(1).normal(size=(2, _SGEMM, _SGEMM)).astype(np.float32)
    out = np.empty_like(a)
    best, end = 0.0, time.perf_counter() + seconds
    with threadpool_limits(psutil.cpu_count()):
        while time.perf_counter() < end:
            began = time.perf_counter()
            np.matmul(a, b, out=out)
            best = max(best, 2.0 * _SGEMM**3 / (time.perf_counter() - began) / 1e9)
    return best
