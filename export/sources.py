"""Where a version under test comes from: converted from MLflow, or as it is published."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from astrotriton.detection.card import ModelCard, UNetModel
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import digests, onnx_graph, registry
from astrotriton.export.engine import KerasEngine
from astrotriton.export.errors import ConversionError, ExportError, RepositoryError
from astrotriton.export.gates.version import GoldenTiles, Progress, Trial, VersionUnderTest
from astrotriton.export.lowering import servable
from astrotriton.export.precision import Precision, reduced
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import MODEL_FILE, Repository
from astrotriton.export.sandbox import Version
from astrotriton.export.subpixel import fold_upsampling
from astrotriton.settings import ModelConfig

if TYPE_CHECKING:
    import keras

Converter = Callable[["keras.Model", ModelCard, str], bytes]


def under_test(
    registered: RegisteredVersion,
    repository: Repository,
    settings: ModelConfig,
    tiles: GoldenTiles,
    *,
    published: ModelCard | None,
    champion: int | None,
    trial: Trial | None,
    profile: str,
    precision: Precision,
    on_progress: Progress,
    converter: Converter,
) -> VersionUnderTest:
    """Load a version, and convert it unless it is published: then that very file is taken.

    Parameters
    ----------
    published
        `published_card` of it.
    champion
        The version to compare with; None without one.
    registered, repository, settings, tiles, trial, profile, precision, on_progress, converter
        As `astrotriton.export.pipeline.verify` takes them.

    Raises
    ------
    ExportError
        If it cannot be loaded or converted.
    """
    name, version = registered.name, registered.version
    on_progress(f"loading {title(registered)} from MLflow")
    card = published or registry.load_card(registered)
    _check_tile_size(card, settings)
    _check_tensors(card, repository)
    model = registry.load_keras(registered)
    if published is None:
        digest = _check_source(registered, model, card)
        on_progress(f"converting {title(registered)} to ONNX")
        content = converter(model, card, digest)
        if profile == "cpu":  # what it brings on a GPU was not measured
            content = fold_upsampling(content)
        content = reduced(content, card, precision, tiles)
        further = onnx_graph.further_outputs(content, card)
        card = msgspec.structs.replace(card, further_outputs=further)
        files = {MODEL_FILE: content}
    else:
        # What else travels with it was made when it was published, and stays as it is.
        files = {
            file: repository.file(name, version, file)
            for file in {MODEL_FILE, *published.digests} - {GOLDEN_FILE}
        }
    served = servable(model, card)
    return VersionUnderTest(
        card=card,
        files=files,
        published=published is not None,
        source=KerasEngine(served.model, served.outputs, card),
        tiles=tiles,
        precision=precision,
        champion=_version(repository, name, champion),
        trial=trial,
        settings=settings,
        profile=profile,
        on_progress=on_progress,
    )


def _version(repository: Repository, name: str, version: int | None) -> Version | None:
    if version is None or not repository.holds(name, version):
        return None
    card = repository.read(name, version)
    files = {file: repository.file(name, version, file) for file in card.digests}
    return Version(card, files)


def _check_source(registered: RegisteredVersion, model: "keras.Model", card: ModelCard) -> str:
    digest = digests.of_source(model, card)
    if registered.digest not in (None, digest):
        raise ExportError(
            f"{title(registered)} is not what was registered: the weights or the card that MLflow"
            " keeps were changed, or damaged; register the model again"
        )
    return digest


def _check_tile_size(card: ModelCard, settings: ModelConfig) -> None:
    if isinstance(card, UNetModel) and card.tile_size != settings.input_size:
        raise ExportError(
            f"the tiles of {card.name} version {card.version} are {card.tile_size}, the setting"
            f" input_size is {settings.input_size}: set"
            f" ASTROTRITON_INPUT_SIZE='{list(card.tile_size)}'"
        )


def _check_tensors(card: ModelCard, repository: Repository) -> None:
    """Refuse what Triton cannot serve beside the other versions: a model has one configuration."""
    others = [one for one in repository.versions(card.name) if one != card.version]
    if not others:
        return
    there = repository.read(card.name, others[-1])

    def told(one: ModelCard) -> str:
        given = ((tensor.name, list(tensor.shape[1:])) for tensor in (one.input, one.output))
        return "takes {} {} and gives {} {}".format(*itertools.chain(*given))

    if (there.input, there.output) != (card.input, card.output):
        raise ConversionError(
            f"{card.name} version {card.version} {told(card)}, and version {there.version}, which"
            f" is published, {told(there)}: all versions of a model take and give the same, so"
            " register this one under another name"
        )


def published_card(
    registered: RegisteredVersion,
    repository: Repository,
    settings: ModelConfig,
    on_progress: Progress,
    precision: Precision,
) -> ModelCard | None:
    """The card of a version that is published, after checking that it was made from this source."""
    name, version = registered.name, registered.version
    if not repository.holds(name, version):
        return None
    card = repository.read(name, version)
    _check_tile_size(card, settings)
    noted = onnx_graph.metadata(repository.file(name, version, MODEL_FILE))
    expected = registered.digest
    if expected is None:
        # Registered by something else, so its digest is not known without its weights.
        on_progress(f"loading {title(registered)} from MLflow")
        expected = digests.of_source(
            registry.load_keras(registered), registry.load_card(registered)
        )
    where = repository.where(name, version)
    if noted.get("source_digest") != expected:
        raise RepositoryError(
            f"{where} was exported from another model than the one that MLflow now has under that"
            " version: use the registry it came from, or delete the folder if nothing serves it"
        )
    if (found := noted.get("precision", "fp32")) != precision:
        raise RepositoryError(
            f"{where} is published as {found}, not {precision}, and a published version never"
            " changes: give the model a further version,"
            f" MlflowClient().copy_model_version('{registered.uri}', '{registered.in_mlflow}'), and"
            " promote that"
        )
    return card


def title(registered: RegisteredVersion) -> str:
    """How a message names a version."""
    return f"{registered.name} version {registered.version}"
