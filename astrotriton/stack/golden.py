"""Proof that a served model version answers what its reference answered."""

from pathlib import Path

import tritonclient.grpc.aio as client
from tritonclient.utils import InferenceServerException

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden
from astrotriton.stack.errors import (
    GoldenMismatchError,
    ModelBusyError,
    ModelStuckError,
    StackError,
)
from astrotriton.triton.proof import prove, prove_in_turn
from astrotriton.triton.statuses import DEADLINE_EXCEEDED, UNAVAILABLE

# Longer than a request may wait in Triton's queue, so that a full queue answers before.
_DEADLINE = 60.0
_KINDS: dict[str, type[StackError]] = {
    UNAVAILABLE: ModelBusyError,
    DEADLINE_EXCEEDED: ModelStuckError,
}


async def check_golden(address: str, version_dir: Path, *, thorough: bool = True) -> float:
    """Send the golden tile to every instance of a model version and compare the answers.

    Parameters
    ----------
    address
        ``host:port`` of Triton's gRPC service.
    version_dir
        ``<repository>/<name>/<version>`` with ``card.json`` and ``golden.npz``: arrays ``image``
        and ``probability``, float32 (1, 1, H, W).
    thorough
        Whether to be sure of every instance (`prove`), or to ask cheaply (`prove_in_turn`).

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
    card = ModelCard.from_json((version_dir / "card.json").read_bytes())
    golden = Golden.from_npz((version_dir / GOLDEN_FILE).read_bytes())

    async with client.InferenceServerClient(address) as server:
        try:
            response = await server.get_model_config(name, version, client_timeout=_DEADLINE)

            async def ask(tiles: Image) -> Image | None:
                tensor = client.InferInput(card.input.name, tiles.shape, card.input.dtype)
                tensor.set_data_from_numpy(tiles)
                answer = await server.infer(name, [tensor], version, client_timeout=_DEADLINE)
                found: Image | None = answer.as_numpy(card.output.name)
                return found

            verdict = await (prove if thorough else prove_in_turn)(golden, response.config, ask)
        except InferenceServerException as error:
            kind = _KINDS.get(error.status(), GoldenMismatchError)
            raise kind(
                f"{name} version {version} does not answer its golden tile: {error.message()}"
            ) from error
    if verdict.fault is not None:
        raise GoldenMismatchError(
            f"{name} version {version} answers its golden tile wrong, {verdict.fault}"
        )
    return verdict.difference
