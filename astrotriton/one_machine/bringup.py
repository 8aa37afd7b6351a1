"""Brings the whole of astrotriton up on one machine, with the reference U-Net served."""

import asyncio
import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from astrotriton.detection.card import ModelCard
from astrotriton.detection.image.exposure import mute_astropy
from astrotriton.export.errors import ExportError
from astrotriton.settings import ModelConfig
from astrotriton.stack import Stack, StackError
from astrotriton.stack.parts.pytriton import fetch_pytriton, find_pytriton

# Fields that travel with the reference U-Net.
_FIELDS = 32


def repository_of(data: Path) -> Path:
    """The model repository that a data folder's Triton serves."""
    return data / "model_repository"


async def bring_up(stack: Stack) -> None:
    """Start the servers, register and export the reference U-Net, load it, and start the gateway.

    Whatever a former run left in the data folder is used again.

    Raises
    ------
    stack.StackError
        If a part does not start, MLflow, the conversion or the repository refuses the model, or
        Triton answers wrongly.
    """
    # TensorFlow takes ten seconds to import: that goes on beside the servers' start.
    if find_pytriton() is None:
        stack.tell("triton", "fetching its binary, once")
        await asyncio.to_thread(fetch_pytriton)
    imported = asyncio.create_task(asyncio.to_thread(_import_export, stack.data / "logs"))
    await stack.start_base()
    await imported
    mute_astropy()
    os.environ["MLFLOW_TRACKING_URI"] = stack.addresses.mlflow_url
    try:
        card = await asyncio.to_thread(_export, stack)
    except ExportError as error:
        raise StackError(str(error)) from error
    await stack.load_model(card.name)
    try:
        await asyncio.to_thread(_note_champion, stack, card.name)
    except ExportError as error:
        raise StackError(str(error)) from error
    await stack.start_gateway()


def _import_export(logs: Path) -> None:
    """Import what export needs; what it prints on the way goes to a log."""
    logs.mkdir(parents=True, exist_ok=True)
    with _stderr_to(logs / "export.log"):
        for module in ("tensorflow", "keras", "tf2onnx", "astrotriton.export.pipeline"):
            importlib.import_module(module)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    importlib.import_module("mlflow.utils.logging_utils").disable_logging()


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send what the process writes to stderr to a file; TensorFlow greets below Python's reach."""
    kept = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _export(stack: Stack) -> ModelCard:
    from astrotriton.export import pipeline, registry
    from astrotriton.training.exposures import golden_tiles, validation_set
    from astrotriton.training.weights import load_card, load_network

    config = ModelConfig()
    stack.tell("export", "registering the reference U-Net")
    version = registry.register(load_network(), load_card())
    exported = pipeline.export(
        f"models:/{config.model_name}/{version}",
        stack.repository,
        config,
        golden_tiles,
        fields=lambda: validation_set(_FIELDS),
        on_progress=lambda what: stack.tell("export", what),
    )
    return exported.card


def _note_champion(stack: Stack, name: str) -> None:
    """Note what serves as the champion; nothing was promoted yet, or this changes nothing."""
    from astrotriton.export.champions import CHAMPIONS_FILE, champions_of, keep_champions
    from astrotriton.export.promotion import mirror
    from astrotriton.export.repository import Repository

    repository = Repository(stack.repository)
    with repository.locked(name):
        if repository.note(name, CHAMPIONS_FILE) is None:
            champions = champions_of(name, repository)
            keep_champions(name, champions, repository)
            for note in mirror(name, champions):
                stack.tell("export", note)
