"""The way to Triton, over gRPC."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from detection.model import UNetModel
from gateway.errors import DependencyError, ModelAnswerError

DEPENDENCY = "triton"
_TIMED_OUT = "StatusCode.DEADLINE_EXCEEDED"


class Triton:
    """A client of one Triton server; use it as an asynchronous context manager.

    Parameters
    ----------
    address
        ``host:port`` of its gRPC service.
    timeout
        Seconds one request may take, its time in Triton's queue included.
    """

    def __init__(self, address: str, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._client = InferenceServerClient(address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ready_versions(self, name: str) -> list[int]:
        """The versions of a model that Triton can infer with, ascending.

        Raises
        ------
        DependencyError
            If Triton does not answer.
        """
        try:
            index = await self._client.get_model_repository_index(client_timeout=self._timeout)
        except InferenceServerException as error:
            raise self._unavailable(error) from error
        return sorted(
            int(model.version)
            for model in index.models
            if model.name == name and model.state == "READY" and model.version.isdecimal()
        )

    async def infer(
        self, card: UNetModel, version: int, tiles: NDArray[np.float32]
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
        DependencyError
            If Triton does not answer in time, or refuses.
        ModelAnswerError
            If the answer has another shape, or values that are not probabilities.
        """
        tensor = InferInput(card.input.name, list(tiles.shape), card.input.dtype)
        tensor.set_data_from_numpy(tiles)
        try:
            result = await self._client.infer(
                card.name,
                [tensor],
                model_version=str(version),
                outputs=[InferRequestedOutput(card.output.name)],
                # Triton drops the request from its queue when nobody waits for it any more.
                timeout=round(self._timeout * 1e6),
                client_timeout=self._timeout,
            )
        except InferenceServerException as error:
            raise self._unavailable(error) from error
        return _checked(result.as_numpy(card.output.name), (len(tiles), *card.output.shape[1:]))

    def _unavailable(self, error: InferenceServerException) -> DependencyError:
        if error.status() == _TIMED_OUT:
            what = f"no answer within {self._timeout:g} s"
        else:
            what = f"{error.message()} ({error.status()})"
        return DependencyError(DEPENDENCY, f"{what}; asked at {self._address}")


def _checked(answer: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if answer is None or answer.shape != shape or answer.dtype != np.float32:
        got = "nothing" if answer is None else f"{answer.dtype} {answer.shape}"
        raise ModelAnswerError(f"expected float32 {shape} from the model, got {got}")
    # A NaN compares false, so this refuses it too.
    if not bool(np.all((answer >= 0.0) & (answer <= 1.0))):
        raise ModelAnswerError(
            "the model answered values that are not probabilities (NaN, or outside 0 to 1)"
        )
    return answer
