"""One registered version into the model repository: the gates in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from detection.config import Device, ModelConfig
from detection.model import UNetModel
from export import convert, digests, parity, registry, repository
from export.errors import ExportError, RepositoryError

if TYPE_CHECKING:
    import keras

GoldenTiles = Callable[[UNetModel], Mapping[str, parity.Tiles]]
Converter = Callable[["keras.Model", UNetModel, str], bytes]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """A version that is published.

    Attributes
    ----------
    name, version
        The same in MLflow and in Triton.
    folder
        ``<repository>/<name>/<version>``.
    card
        As published, with digests.
    figures
        What parity measured, by name; empty if the version was published before.
    published_before
        Whether it was there already, so that nothing was converted.
    """

    name: str
    version: int
    folder: Path
    card: UNetModel
    figures: dict[str, float]
    published_before: bool


def export(
    uri: str,
    root: Path,
    settings: ModelConfig,
    tiles: GoldenTiles,
    *,
    device: Device | None = None,
    on_progress: Progress = lambda _: None,
    converter: Converter = convert.convert,
) -> ExportedVersion:
    """Export a registered version; one that is published already is answered at once.

    Parameters
    ----------
    uri
        ``models:/NAME/7``, ``models:/NAME/latest`` or ``models:/NAME@alias``.
    root
        The model repository.
    settings
        How the version is to be served.
    tiles
        Makes the golden tiles by kind, as `export.parity.compare` takes them, from the card.
    device
        Where the version is to be served; if None, what the settings find on this machine.
    on_progress
        Told what comes next, in a few words.
    converter
        Makes an ONNX file of a Keras model, its card and its source digest.

    Raises
    ------
    ExportError
        If a step fails. The repository is then as it was.
    """
    registered = registry.resolve(uri)
    title = f"{registered.name} version {registered.version}"
    device = device or settings.device()
    folder = repository.folder_of(root, registered.name, registered.version)

    def published(digest: str) -> ExportedVersion | None:
        if (card := _published(folder, digest)) is None:
            return None
        _check_tile_size(card, settings)
        on_progress(f"{title} is published already")
        repository.serve(folder, card, settings, device)
        return ExportedVersion(
            registered.name, registered.version, folder, card, figures={}, published_before=True
        )

    if registered.digest and (before := published(registered.digest)):
        return before
    on_progress(f"loading {title} from MLflow")
    card = registry.load_card(registered)
    _check_tile_size(card, settings)
    model = registry.load_keras(registered)
    digest = digests.of_source(model, card)
    if registered.digest is None:
        # Registered by something else, so its digest was not known before.
        if before := published(digest):
            return before
    elif registered.digest != digest:
        raise ExportError(
            f"{title} is not what was registered: the weights or the card that MLflow keeps were"
            " changed, or damaged; register the model again"
        )

    on_progress(f"converting {title} to ONNX")
    content = converter(model, card, digest)
    on_progress("comparing ONNX Runtime with Keras on the golden tiles")
    passed = parity.compare(model, content, card, tiles(card))
    files = {
        repository.MODEL_FILE: content,
        repository.GOLDEN_FILE: passed.golden.to_npz(),
    }
    card = msgspec.structs.replace(
        card, digests={name: digests.of_bytes(file) for name, file in files.items()}
    )
    # Before publishing, which comes last: whatever stopped on the way is done again by a repeat.
    registry.record(registered, card, passed.figures)
    on_progress(f"publishing {title} in {folder}")
    repository.publish(root, card, files, settings, device)
    return ExportedVersion(
        registered.name,
        registered.version,
        folder,
        card,
        figures=passed.figures,
        published_before=False,
    )


def _check_tile_size(card: UNetModel, settings: ModelConfig) -> None:
    if card.tile_size != settings.input_size:
        raise ExportError(
            f"the tiles of {card.name} version {card.version} are {card.tile_size}, the setting"
            f" input_size is {settings.input_size}: set"
            f" ASTROTRITON_INPUT_SIZE='{list(card.tile_size)}'"
        )


def _published(folder: Path, source_digest: str) -> UNetModel | None:
    """The card of a version that is published, after checking that it was made from this source."""
    if not folder.exists():
        return None
    card = repository.read(folder)
    found = convert.metadata((folder / repository.MODEL_FILE).read_bytes()).get("source_digest")
    if found != source_digest:
        raise RepositoryError(
            f"{folder} was exported from another model than the one that MLflow now has under that"
            " version: use the registry it came from, or delete the folder if nothing serves it"
        )
    return card
