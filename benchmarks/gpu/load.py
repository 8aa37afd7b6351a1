"""Clients in processes of their own: one Python could not ask for thousands of tiles a second.

Requests are counted and drained: a level ends with its last answer.
"""

import math
import multiprocessing
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.server import NAME
from benchmarks.gpu.steps.common import difference, repeated


@dataclass(frozen=True, slots=True)
class Level:
    """How Triton is asked.

    Attributes
    ----------
    wire
        ``grpc``: tiles and answers in the messages. ``shared``: in the host's shared memory.
        ``cuda``: in the GPU's.
    concurrency
        Requests at a time.
    tiles
        A request.
    """

    wire: str
    concurrency: int
    tiles: int = 1

    @property
    def title(self) -> str:
        """In a few words."""
        wires = {"grpc": "gRPC", "shared": "shared memory", "cuda": "CUDA shared memory"}
        return wires[self.wire] + (f", {self.tiles} tiles a request" if self.tiles > 1 else "")


class Clients:
    """Processes that ask a Triton.

    Parameters
    ----------
    address
        Of its gRPC service.
    count
        How many processes.
    image, expected
        The golden tiles and Keras's answers.
    """

    def __init__(
        self,
        address: str,
        count: int,
        image: NDArray[np.float32],
        expected: NDArray[np.float32],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, address, number, image, expected), daemon=True
            )
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def run(self, level: Level, seconds: float) -> tuple[float, float]:
        """Ask at a level for about so long: tiles a second, and the largest difference from Keras.

        Without any time, each asker asks once.

        Raises
        ------
        RuntimeError
            If a request fails.
        """
        if seconds <= 0:
            return self._ask(level, 1)
        warm, _ = self._ask(level, 2)
        each = max(2, int(seconds * warm / (level.concurrency * level.tiles)))
        return self._ask(level, each)

    def _ask(self, level: Level, each: int) -> tuple[float, float]:
        pipes: Sequence[Any] = self._pipes[: level.concurrency]
        shares = [level.concurrency // len(pipes)] * len(pipes)
        for number in range(level.concurrency % len(pipes)):
            shares[number] += 1
        for pipe, share in zip(pipes, shares, strict=True):
            pipe.send((level, share, each))
        self._heard(pipes)  # All are ready; now all at once.
        started = time.perf_counter()
        for pipe in pipes:
            pipe.send(None)
        largest = max(self._heard(pipes))
        elapsed = time.perf_counter() - started
        return level.concurrency * each * level.tiles / elapsed, largest

    def _heard(self, pipes: Sequence[Any]) -> list[float]:
        answers = [pipe.recv() for pipe in pipes]
        for answer in answers:
            if isinstance(answer, str):
                raise RuntimeError(answer)
        return answers


def _serve(
    pipe: "Connection[Any, Any]",
    address: str,
    number: int,
    image: NDArray[np.float32],
    expected: NDArray[np.float32],
) -> None:
    while True:
        level, share, each = pipe.recv()
        try:
            with ExitStack() as stack:
                askers = [
                    _Asker(stack, address, f"{number}_{one}", level, image, expected)
                    for one in range(share)
                ]
                pipe.send(0.0)
                pipe.recv()
                threads = [threading.Thread(target=asker.ask, args=(each,)) for asker in askers]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                problem = next((asker.problem for asker in askers if asker.problem), None)
                pipe.send(problem or max(asker.difference() for asker in askers))
        except Exception as error:  # Whatever it is, whoever waits must hear of it.
            pipe.send(f"{type(error).__name__}: {error}")


class _Asker:
    """One request at a time, with a connection and regions of its own."""

    def __init__(
        self,
        stack: ExitStack,
        address: str,
        name: str,
        level: Level,
        image: NDArray[np.float32],
        expected: NDArray[np.float32],
    ) -> None:
        import tritonclient.grpc as triton

        self.problem: str | None = None
        self._expected = expected
        tiles = repeated(image, level.tiles)
        self._shape = (level.tiles, *expected.shape[1:])
        self._client = stack.enter_context(triton.InferenceServerClient(address))
        self._input = triton.InferInput("image", tiles.shape, "FP32")
        self._output = triton.InferRequestedOutput("probability")
        self._region: Any = None
        self._read: Any = None
        self._answer: Any = None
        if level.wire == "grpc":
            self._input.set_data_from_numpy(tiles)
            return
        sizes = {"in": tiles.nbytes, "out": math.prod(self._shape) * tiles.itemsize}
        self._read = _regions(stack, self._client, name, level.wire, tiles, sizes)
        self._input.set_shared_memory(f"in_{name}", sizes["in"])
        self._output.set_shared_memory(f"out_{name}", sizes["out"])

    def ask(self, times: int) -> None:
        try:
            for _ in range(times):
                self._answer = self._client.infer(NAME, [self._input], outputs=[self._output])
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def difference(self) -> float:
        """Of the last answer to Keras's."""
        if self._read is None:
            answer = self._answer.as_numpy("probability")
        else:
            answer = self._read(self._shape)
        return difference(answer, self._expected)


def _regions(
    stack: ExitStack,
    client: Any,
    name: str,
    wire: str,
    tiles: NDArray[np.float32],
    sizes: dict[str, int],
) -> Any:
    """Regions for a request and its answer, known to Triton; how the answer is read."""
    if wire == "cuda":
        from tritonclient.utils import cuda_shared_memory as memory

        made = {
            kind: memory.create_shared_memory_region(kind, size, 0) for kind, size in sizes.items()
        }
        for kind, region in made.items():
            stack.callback(memory.destroy_shared_memory_region, region)
            known = f"{kind}_{name}"
            client.register_cuda_shared_memory(known, memory.get_raw_handle(region), 0, sizes[kind])
            stack.callback(client.unregister_cuda_shared_memory, known)
    else:
        from tritonclient.utils import shared_memory as memory

        made = {}
        for kind, size in sizes.items():
            known = f"{kind}_{name}"
            key = f"/astrotriton_gpu_{known}_{time.time_ns()}"
            made[kind] = memory.create_shared_memory_region(known, key, size)
            stack.callback(memory.destroy_shared_memory_region, made[kind])
            client.register_system_shared_memory(known, key, size)
            stack.callback(client.unregister_system_shared_memory, known)
    memory.set_shared_memory_region(made["in"], [tiles])
    return lambda shape: memory.get_contents_as_numpy(made["out"], np.float32, shape)
