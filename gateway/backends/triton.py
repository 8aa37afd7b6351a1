"""The way to Triton, over gRPC."""

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import Golden, Verdict
from astrotriton.gateway.backends.replicas import Replica, Replicas
from astrotriton.gateway.backends.shared_memory import SharedMemory, is_unknown
from astrotriton.gateway.deadline import remaining
from astrotriton.gateway.errors import BusyError, DependencyError, GatewayError, ModelAnswerError
from astrotriton.gateway.observability.metrics import BATCHES
from astrotriton.gateway.observability.telemetry import tracing
from astrotriton.triton.proof import prove
from astrotriton.triton.statuses import DEADLINE_EXCEEDED, is_full
from astrotriton.triton.versions import ready_versions

DEPENDENCY = "triton"

# Seconds for a sign of life before a proof: for one that hangs, all the others' would wait.
_GREETING = 3.0
# Seconds that whoever asks for signs of life waits for names to be looked up.
_LOOKING_UP = 1.0


class Triton:
    """A client of the Triton servers; use it as an asynchronous context manager.

    Parameters
    ----------
    addresses
        ``host:port`` of their gRPC service, several separated by commas.
    timeout
        Seconds one request may take, its time in Triton's queue included.
    share
        Hand tiles over in memory that servers of this host have mapped too.
    """

    def __init__(self, addresses: str, *, timeout: float, share: bool = False) -> None:
        self._timeout = timeout
        self._share = share
        self._replicas = Replicas(addresses)
        self._largest: dict[tuple[str, int], int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._replicas.__aexit__(*error)

    @property
    def faults(self) -> int:
        """How many requests have failed by a fault of a server's, so far."""
        return self._replicas.faults

    async def replicas(self) -> list[Replica]:
        """The servers."""
        return await self._replicas.all()

    async def find_silent(self, seconds: float) -> dict[Replica, str]:
        """The servers that give no sign of life within so many seconds, and why not.

        This costs a server nothing, unlike `prove`, and says no more of it than that it is there.
        Names that take long to look up don't keep those that are known from being asked.
        """
        replicas = await self._replicas.all(_LOOKING_UP)
        faults = await asyncio.gather(*(self._greet(replica, seconds) for replica in replicas))
        found = zip(replicas, faults, strict=True)
        return {replica: fault.detail for replica, fault in found if fault is not None}

    async def _greet(self, replica: Replica, seconds: float) -> GatewayError | None:
        try:
            await replica.client.is_server_live(client_timeout=seconds)
        except InferenceServerException as error:
            return self._unavailable(error, seconds)
        return None

    async def ready_versions(self, name: str) -> list[int]:
        """The versions of a model that Triton can infer with, ascending.

        Raises
        ------
        DependencyError
            If Triton does not answer.
        """
        timeout = remaining(self._timeout)
        try:
            index = await self._replicas.call(
                lambda replica: replica.client.get_model_repository_index(client_timeout=timeout)
            )
        except InferenceServerException as error:
            raise self._unavailable(error, timeout) from error
        return ready_versions(index, name)

    async def largest_batch(self, name: str, version: int) -> int:
        """Most tiles that a model version takes in one request; asked for once.

        Raises
        ------
        DependencyError
            If Triton does not answer, or does not serve the version.
        """
        if (name, version) not in self._largest:
            timeout = remaining(self._timeout)
            try:
                response = await self._replicas.call(
                    lambda replica: replica.client.get_model_config(
                        name, str(version), client_timeout=timeout
                    )
                )
            except InferenceServerException as error:
                raise self._unavailable(error, timeout) from error
            self._largest[name, version] = max(response.config.max_batch_size, 1)
        return self._largest[name, version]

    async def infer(
        self, card: ModelCard, version: int, tiles: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities of a batch of tiles.

        Parameters
        ----------
        card
            Names and shapes of the tensors.
        version
            The version that shall answer.
        tiles
            float32 (n, channels, height, width), C-contiguous.

        Returns
        -------
        float32 (n, channels, height, width), every value within 0 and 1.

        Raises
        ------
        BusyError
            If Triton's queue is full, or the request waited in it too long.
        DependencyError
            If Triton does not answer in time, or refuses.
        ModelAnswerError
            If the answer has another shape, or values that are not probabilities.
        """
        timeout = remaining(self._timeout)
        try:
            return await self._replicas.call(
                lambda replica: self._infer(replica, card, version, tiles, timeout)
            )
        except InferenceServerException as error:
            raise self._unavailable(error, timeout) from error

    async def prove(
        self, card: ModelCard, version: int, golden: Golden
    ) -> dict[Replica, Verdict | GatewayError]:
        """Let every instance of every server answer a golden tile.

        Returns
        -------
        For each server what is to be said of its answers, or why there are none.
        """
        replicas = await self._replicas.all()
        verdicts = await asyncio.gather(
            *(self._prove(replica, card, version, golden) for replica in replicas)
        )
        return dict(zip(replicas, verdicts, strict=True))

    async def _prove(
        self, replica: Replica, card: ModelCard, version: int, golden: Golden
    ) -> Verdict | GatewayError:
        timeout = remaining(self._timeout)
        if (fault := await self._greet(replica, min(timeout, _GREETING))) is not None:
            return fault
        try:
            response = await replica.client.get_model_config(
                card.name, str(version), client_timeout=timeout
            )
            return await prove(
                golden,
                response.config,
                lambda tiles: self._infer(replica, card, version, tiles, timeout),
            )
        except InferenceServerException as error:
            return self._unavailable(error, timeout)
        except GatewayError as error:
            return error

    async def _infer(
        self,
        replica: Replica,
        card: ModelCard,
        version: int,
        tiles: NDArray[np.float32],
        timeout: float,
    ) -> NDArray[np.float32]:
        BATCHES.observe(len(tiles))
        request = _TileRequest(replica.client, card, version, tiles, timeout)
        if not self._share:
            return await request.through_socket()
        try:
            return await request.through_memory(replica.memory)
        except InferenceServerException as error:
            if not is_unknown(error):
                raise
        return await request.through_memory(replica.memory)

    def _unavailable(self, error: InferenceServerException, timeout: float) -> GatewayError:
        message = str(error.message())
        if is_full(error):
            return BusyError(f"{DEPENDENCY}: {message}")
        if error.status() == DEADLINE_EXCEEDED:
            what = f"no answer within {timeout:g} s"
        else:
            what = f"{message} ({error.status()})"
        return DependencyError(DEPENDENCY, f"{what}; asked at {self._replicas.addresses}")


@dataclass(frozen=True, slots=True)
class _TileRequest:
    """A request for the probabilities of tiles."""

    client: InferenceServerClient
    card: ModelCard
    version: int
    tiles: NDArray[np.float32]
    timeout: float

    async def through_socket(self) -> NDArray[np.float32]:
        tensor, wanted = self._tensors()
        tensor.set_data_from_numpy(self.tiles)
        result = await self._send(tensor, wanted)
        return _checked(result.as_numpy(self.card.output.name), self._shape)

    async def through_memory(self, memory: SharedMemory) -> NDArray[np.float32]:
        start, size = self.tiles.nbytes, math.prod(self._shape) * self.tiles.itemsize
        async with memory.region(start + size) as region:
            if region is None:
                return await self.through_socket()
            tensor, wanted = self._tensors()
            region.write(self.tiles)
            tensor.set_shared_memory(region.name, start)
            wanted.set_shared_memory(region.name, size, start)
            result = await self._send(tensor, wanted)
            answer = region.read(start, self._shape)
        told = result.get_output(self.card.output.name)
        if told is None or tuple(told.shape) != self._shape or told.datatype != "FP32":
            got = None if told is None else f"{told.datatype} {tuple(told.shape)}"
            raise _unexpected(got, self._shape)
        return _checked(answer, self._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        """Of the answer."""
        return (len(self.tiles), *self.card.output.shape[1:])

    def _tensors(self) -> tuple[InferInput, InferRequestedOutput]:
        card = self.card
        tensor = InferInput(card.input.name, list(self.tiles.shape), card.input.dtype)
        return tensor, InferRequestedOutput(card.output.name)

    async def _send(self, tensor: InferInput, wanted: InferRequestedOutput) -> InferResult:
        return await self.client.infer(
            self.card.name,
            [tensor],
            model_version=str(self.version),
            outputs=[wanted],
            # Triton drops the request from its queue when nobody waits for it any more.
            timeout=round(self.timeout * 1e6),
            client_timeout=self.timeout,
            headers=tracing.headers(),
        )


def _checked(answer: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if answer is None or answer.shape != shape or answer.dtype != np.float32:
        raise _unexpected(None if answer is None else f"{answer.dtype} {answer.shape}", shape)
    # Both are NaN where one value is, and that compares false.
    if not (answer.min() >= 0.0 and answer.max() <= 1.0):
        raise ModelAnswerError(
            "the model answered values that are not probabilities (NaN, or outside 0 to 1)"
        )
    return answer


def _unexpected(got: str | None, shape: tuple[int, ...]) -> ModelAnswerError:
    return ModelAnswerError(f"expected float32 {shape} from the model, got {got or 'nothing'}")
