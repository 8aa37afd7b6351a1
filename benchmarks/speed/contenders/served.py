"""What the project's own stack serves: Triton alone, and the gateway over HTTP and gRPC."""

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit

import grpc
import tritonclient.grpc as triton

from astrotriton.gateway.rpc.detections_pb2 import Candidate, Candidates, InferRequest
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.environments import perf_analyzer
from benchmarks.speed.exposures import Exposure, asked
from benchmarks.speed.networks import Served
from benchmarks.speed.processes import Processes, of_triton, tree
from benchmarks.speed.wire import MULTIPART, multipart, post

_LARGEST = 1 << 30
_DEADLINE = 120.0
_LOOK = 0.01


def triton_processes(served: Served) -> Processes:
    """Triton's server, and the stubs that the model's instances run in."""
    return of_triton(tree(served.victim.part("triton")))


def gateway_processes(served: Served) -> Processes:
    """All that takes part in scoring an exposure over the gateway."""
    parts = {name: tree(served.victim.part(name)) for name in ("gateway", "postgres", "nats")}
    return {**triton_processes(served), **parts}


class TritonClient(Contender):
    """Triton alone, asked by its synchronous gRPC client from this process."""

    key = "triton_client"
    title = "Triton alone, its Python client"

    def __init__(self, exposures: Sequence[Exposure], served: Served) -> None:
        super().__init__(exposures)
        self._served = served
        self._client = triton.InferenceServerClient(served.victim.addresses.triton_grpc)

    def score(self, exposure: Exposure) -> None:
        """Send the tiles, one a request."""
        card = self._served.card
        for tile in exposure.tiles:
            tensor = triton.InferInput(card.input.name, [1, *tile.shape], card.input.dtype)
            tensor.set_data_from_numpy(tile[None])
            answer = self._client.infer(card.name, [tensor])
            if answer.as_numpy(card.output.name) is None:
                raise RuntimeError("Triton answered without a map")

    def processes(self) -> Processes:
        """Triton's."""
        return triton_processes(self._served)

    def stop(self) -> None:
        """Close the connection."""
        super().stop()
        self._client.close()


class PerfAnalyzer(Contender):
    """Triton alone, asked by NVIDIA's load generator.

    Parameters
    ----------
    cache
        Where its environment is kept, and its files.
    """

    key = "triton"
    title = "Triton alone, perf_analyzer"

    def __init__(self, exposures: Sequence[Exposure], served: Served, cache: Path) -> None:
        super().__init__(exposures)
        self._served, self._cache = served, cache
        self._folder = cache / "servers" / self.key
        self._client = triton.InferenceServerClient(served.victim.addresses.triton_grpc)

    def start(self) -> None:
        """Write a tile where perf_analyzer reads it."""
        self._command = perf_analyzer(self._cache)
        self._folder.mkdir(parents=True, exist_ok=True)
        tile = self.exposures[0].tiles[0]
        (self._folder / self._served.card.input.name).write_bytes(tile.tobytes())

    def score(self, exposure: Exposure) -> None:
        """Not done one at a time."""
        raise NotImplementedError

    def drain(self, count: int, clients: int) -> float:
        """Let it send a fixed count; seconds from the first request to the last answer, by Triton.

        What it prints is a rate over whole seconds, which a few dozen requests don't fill.
        """
        program, environment = self._command
        before, spent = self._answered()
        command = [
            *(program, "-m", self._served.card.name, "-i", "grpc"),
            *("-u", self._served.victim.addresses.triton_grpc),
            *("--input-data", str(self._folder), "--request-count", str(count)),
            *("--concurrency-range", str(clients)),
        ]
        with (
            TemporaryFile("w+") as printed,
            subprocess.Popen(command, env=environment, stdout=printed, stderr=printed) as sender,
        ):
            try:
                first = self._when(sender, before + 1)
                answered, took = self._answered()
                last = self._when(sender, before + count)
                sender.wait(_DEADLINE)
            finally:
                sender.kill()
            if sender.returncode or last is None or first is None:
                printed.seek(0)
                raise RuntimeError(f"perf_analyzer: {printed.read().strip()[-300:]}")
        # The first was sent as long before its answer as Triton took for it.
        return last - first + (took - spent) / (answered - before)

    def _when(self, sender: "subprocess.Popen[bytes]", number: int) -> float | None:
        """When Triton has answered so many, looked at again and again; None if it never does."""
        began, before = time.perf_counter(), self._answered()[0]
        while (now := time.perf_counter()) < began + _DEADLINE:
            # Asked first: what it sent last may be counted just before it ends.
            ended = sender.poll() is not None
            answered = self._answered()[0]
            if answered >= number:
                return time.perf_counter()
            if ended:
                break
            # To be asked costs Triton too: half of the way that is left, then often.
            done, left = answered - before, number - answered
            time.sleep(max(_LOOK, (now - began) / done * left / 2) if done else _LOOK)
        return None

    def _answered(self) -> tuple[int, float]:
        """How many requests Triton has answered, and the seconds that it took for all of them."""
        models = self._client.get_inference_statistics(self._served.card.name).model_stats
        answered = [model.inference_stats.success for model in models]
        return sum(one.count for one in answered), sum(one.ns for one in answered) / 1e9

    def processes(self) -> Processes:
        """Triton's."""
        return triton_processes(self._served)

    def stop(self) -> None:
        """Close the connection."""
        super().stop()
        self._client.close()


class GatewayHttp(Contender):
    """The gateway over HTTP: file and candidates in, detections stored when the answer comes."""

    key = "gateway"
    title = "the gateway, HTTP"

    def __init__(self, exposures: Sequence[Exposure], served: Served) -> None:
        super().__init__(exposures)
        self._served = served
        self._own = threading.local()
        self._address = urlsplit(served.victim.addresses.gateway_url).netloc

    def score(self, exposure: Exposure) -> None:
        """Send the file, and read the whole answer."""
        self.ask(exposure)

    def ask(self, exposure: Exposure) -> bytes:
        """The answer to a file, as JSON."""
        body = self._body(exposure)
        return post(self._own, self._address, "/detections/infer", body, MULTIPART)

    def _body(self, exposure: Exposure) -> bytes:
        return multipart(exposure.file, request=asked(exposure.candidates))

    def processes(self) -> Processes:
        """The gateway's, Triton's, PostgreSQL's and NATS's."""
        return gateway_processes(self._served)


class GatewayExtracting(GatewayHttp):
    """The gateway over HTTP, which has to find the candidates by itself."""

    key = "gateway_extracting"
    title = "the gateway, HTTP, candidates found by SEP"

    def _body(self, exposure: Exposure) -> bytes:
        return multipart(exposure.file)


class GatewayGrpc(Contender):
    """The gateway over gRPC."""

    key = "grpc"
    title = "the gateway, gRPC"

    def __init__(self, exposures: Sequence[Exposure], served: Served) -> None:
        super().__init__(exposures)
        self._served = served
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{served.grpc_port}",
            options=[
                ("grpc.max_receive_message_length", _LARGEST),
                ("grpc.max_send_message_length", _LARGEST),
            ],
        )
        self._stub = DetectionsStub(self._channel)  # type: ignore[no-untyped-call]

    def score(self, exposure: Exposure) -> None:
        """Send the file and the candidates."""
        given = Candidates(items=[Candidate(x=x, y=y) for x, y in exposure.candidates])
        self._stub.Infer(InferRequest(exposure=exposure.file, candidates=given), timeout=_DEADLINE)

    def processes(self) -> Processes:
        """The gateway's, Triton's, PostgreSQL's and NATS's."""
        return gateway_processes(self._served)

    def stop(self) -> None:
        """Close the connection."""
        super().stop()
        self._channel.close()
