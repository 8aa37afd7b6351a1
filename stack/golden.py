"""Proof that a served model version answers what its reference answered."""

import asyncio
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as client
from tritonclient.utils import InferenceServerException

from detection.golden import GOLDEN_FILE, TOLERANCE, Golden, instances_of
from detection.model import UNetModel
from stack.errors import GoldenMismatchError, ModelBusyError, ModelStuckError, StackError

# Longer than a request may wait in Triton's queue, so that a full queue answers before.
_DEADLINE = 60.0
_KINDS: dict[str, type[StackError]] = {
    "StatusCode.UNAVAILABLE": ModelBusyError,
    "StatusCode.DEADLINE_EXCEEDED": ModelStuckError,
}


async def check_golden(address: str, version_dir: Path, *, thorough: bool = True) -> float:
    """Send the golden tile to every instance of a model version and compare the answers.

    Which instance answers can't be chosen. But an instance takes one batch at a time, and requests
    of more than half the largest batch can't be joined in one: as many of them at once as there are
    instances keep each instance busy with its own. That is the thorough way. The cheap one sends
    lone tiles one after the other, twice as many as there are instances, which take turns.

    Parameters
    ----------
    address
        ``host:port`` of Triton's gRPC service.
    version_dir
        ``<repository>/<name>/<version>`` with ``card.json`` and ``golden.npz``: arrays ``image``
        and ``probability``, float32 (1, 1, H, W).
    thorough
        Whether to be sure of every instance.

    Returns
    -------
    float
        The largest absolute difference seen.

    Raises
    ------
    GoldenMismatchError
        If an answer differs by more, or is an error.
    ModelBusyError
        If Triton's queue is full, or Triton is away.
    ModelStuckError
        If there is no answer in a minute.
    """
    name, version = version_dir.parent.name, version_dir.name
    card = UNetModel.from_json((version_dir / "card.json").read_bytes())
    golden = Golden.from_npz((version_dir / GOLDEN_FILE).read_bytes())

    async with client.InferenceServerClient(address) as server:
        try:
            response = await server.get_model_config(name, version, client_timeout=_DEADLINE)
            config = response.config
            copies = config.max_batch_size // 2 + 1 if thorough else 1
            tiles = np.repeat(golden.image, copies, axis=0)
            tensor = client.InferInput(card.input.name, tiles.shape, card.input.dtype)
            tensor.set_data_from_numpy(tiles)

            async def ask() -> client.InferResult:
                return await server.infer(name, [tensor], version, client_timeout=_DEADLINE)

            instances = instances_of(config.instance_group)
            if thorough:
                answers = await asyncio.gather(*(ask() for _ in range(instances)))
            else:
                answers = [await ask() for _ in range(2 * instances)]
        except InferenceServerException as error:
            kind = _KINDS.get(error.status(), GoldenMismatchError)
            raise kind(
                f"{name} version {version} does not answer its golden tile: {error.message()}"
            ) from error
    return max(
        _compare(name, version, answer.as_numpy(card.output.name), golden.probability)
        for answer in answers
    )


def _compare(name: str, version: str, answer: np.ndarray | None, expected: np.ndarray) -> float:
    if answer is None or answer.shape[1:] != expected.shape[1:]:
        shape = None if answer is None else answer.shape
        raise GoldenMismatchError(
            f"{name} version {version} answers its golden tile with shape {shape}, "
            f"its reference with {expected.shape}"
        )
    difference = np.abs(answer - expected)
    largest = float(difference.max())
    if not largest <= TOLERANCE:  # NaN too.
        where = np.unravel_index(difference.argmax(), difference.shape)
        raise GoldenMismatchError(
            f"{name} version {version} differs from its reference on the golden tile by "
            f"{largest:.3g}, more than {TOLERANCE:g}: at row {where[2]}, column {where[3]} it "
            f"answers {answer[where]:.6g} instead of {expected[0, *where[1:]]:.6g}"
        )
    return largest
