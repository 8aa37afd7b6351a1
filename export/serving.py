"""Serving Tritons: every replica loads a version and answers its golden tile, or it isn't live."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)
from tritonclient.utils import InferenceServerException

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import Golden
from astrotriton.export.errors import ServingError
from astrotriton.triton.addresses import servers_at
from astrotriton.triton.proof import proof_of
from astrotriton.triton.versions import ready_versions

# A model whose process lacks a library never says so: it just doesn't load.
_DEADLINE = 180.0


class Replica:
    """One Triton server with explicit model control.

    Parameters
    ----------
    address
        ``host:port`` of its gRPC service.

    Raises
    ------
    ServingError
        From every method, if Triton refuses or does not answer.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = InferenceServerClient(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def load(self, name: str) -> None:
        """Load the versions that the model's ``config.pbtxt`` lists, and unload the others."""
        try:
            self._client.load_model(name, client_timeout=_DEADLINE)
        except InferenceServerException as error:
            raise self._told(f"does not load {name}", error) from error

    def unload(self, name: str) -> None:
        """Unload every version of a model."""
        try:
            self._client.unload_model(name, client_timeout=_DEADLINE)
        except InferenceServerException as error:
            raise self._told(f"does not unload {name}", error) from error

    def ready_versions(self, name: str) -> list[int]:
        """The versions that it serves, ascending."""
        try:
            index = self._client.get_model_repository_index(client_timeout=_DEADLINE)
        except InferenceServerException as error:
            raise self._told(f"does not say what it serves of {name}", error) from error
        return ready_versions(index, name)

    def infer(self, card: ModelCard, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output for a batch of tiles."""
        return self._infer(card, tiles, 1)[0]

    def check(self, card: ModelCard, golden: bytes) -> float:
        """Send the golden tile to every instance of a version and compare the answers.

        Parameters
        ----------
        card
            Of the version.
        golden
            Its ``golden.npz``.

        Returns
        -------
        float
            The largest absolute difference seen.

        Raises
        ------
        ServingError
            If an answer differs by more than 1e-4, or there is none.
        """
        tile = Golden.from_npz(golden)
        title = f"{card.name} version {card.version}"
        try:
            config = self._client.get_model_config(
                card.name, str(card.version), client_timeout=_DEADLINE
            ).config
        except InferenceServerException as error:
            raise self._told(f"does not serve {title}", error) from error
        verdict = tile.judge(self._infer(card, *proof_of(tile, config)))
        if verdict.fault is not None:
            raise ServingError(
                f"Triton at {self.address} answers the golden tile of {title} wrongly, "
                + verdict.fault
            )
        return verdict.difference

    def _infer(
        self, card: ModelCard, tiles: NDArray[np.float32], copies: int
    ) -> list[NDArray[np.float32]]:
        """Send the same request so many times at once."""
        tensor = InferInput(card.input.name, tiles.shape, card.input.dtype)
        tensor.set_data_from_numpy(tiles)
        outputs = [InferRequestedOutput(card.output.name)]
        futures: list[Future[InferResult]] = [Future() for _ in range(copies)]

        def settle(future: Future[InferResult]) -> Callable[..., None]:
            def settled(result: InferResult | None, error: InferenceServerException | None) -> None:
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(result)

            return settled

        try:
            for future in futures:
                self._client.async_infer(
                    card.name,
                    [tensor],
                    settle(future),
                    model_version=str(card.version),
                    outputs=outputs,
                    client_timeout=_DEADLINE,
                )
            return [future.result().as_numpy(card.output.name) for future in futures]
        except InferenceServerException as error:
            raise self._told(
                f"does not answer {card.name} version {card.version}", error
            ) from error

    def _told(self, what: str, error: InferenceServerException) -> ServingError:
        return ServingError(f"Triton at {self.address} {what}: {error.message()}")


def addresses_of(targets: Iterable[str]) -> Sequence[str]:
    """Every ``host:port`` that some targets stand for: a DNS name may be that of many replicas.

    Raises
    ------
    ServingError
        If a target has no port, or its name is unknown.
    """
    found: dict[str, None] = {}
    for target in targets:
        try:
            found |= dict.fromkeys(servers_at(target))
        except ValueError as error:
            raise ServingError(str(error)) from error
        except OSError as error:
            raise ServingError(f"the Triton at {target} cannot be found: {error}") from error
    return list(found)
