"""One registered version into the model repository: converted, asked by the gates, published."""

import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from astrotriton.detection.card import ModelCard
from astrotriton.export import convert, digests, gates, registry
from astrotriton.export.champions import champions_of
from astrotriton.export.errors import GateError
from astrotriton.export.gates.version import Fields, GoldenTiles, Progress, Trial
from astrotriton.export.manifest import Manifest
from astrotriton.export.precision import Precision
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import CARD_FILE, MANIFEST_FILE, Repository
from astrotriton.export.sources import Converter, published_card, title, under_test
from astrotriton.settings import ModelConfig

_MADE_WITH = ("keras", "tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that passed its gates, published or not.

    Attributes
    ----------
    registered
        The version.
    card
        As it is, or is to be, published, with digests.
    files
        Contents of ``model.onnx``, ``golden.npz`` and what travels along, by file name.
    manifest
        Its gates.
    published_before
        Whether it was published already.
    """

    registered: RegisteredVersion
    card: ModelCard
    files: Mapping[str, bytes]
    manifest: Manifest
    published_before: bool


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """A version that is published.

    Attributes
    ----------
    name, version
        The same in MLflow and in Triton.
    location
        ``<repository>/<name>/<version>``.
    card
        As published, with digests.
    manifest
        Its gates; None if it was published before and nothing was measured.
    published_before
        Whether it was there already, so that nothing was converted.
    """

    name: str
    version: int
    location: str
    card: ModelCard
    manifest: Manifest | None
    published_before: bool


def export(
    uri: str,
    root: str | Path,
    settings: ModelConfig,
    tiles: GoldenTiles,
    *,
    profile: str | None = None,
    precision: Precision = "fp32",
    serve: bool = True,
    fields: Fields | None = None,
    on_progress: Progress = lambda _: None,
    converter: Converter = convert.convert,
) -> ExportedVersion:
    """Convert a registered version, compare it with Keras, and publish it.

    One that is published already is answered at once.

    Parameters
    ----------
    uri
        As `astrotriton.export.registry.resolve` takes it.
    root
        The model repository, a folder or ``s3://bucket/prefix``.
    settings
        How the version is to be served.
    tiles
        Makes the golden tiles by kind, as `export.parity.compare` takes them, from the card.
    profile
        Of ``triton-config/profiles/``; if None, what the settings find on this machine.
    precision
        Of the ONNX file.
    serve
        Have Triton load the version when it next loads the model. Without, it is only there.
    fields
        Makes the fields that travel with the version, so that it can be validated where it is
        served, and exposures compared with them; None: it travels without.
    on_progress
        Told what comes next, in a few words.
    converter
        Makes an ONNX file of a Keras model, its card and its source digest.

    Raises
    ------
    GateError
        If the ONNX file does not answer as Keras does.
    ExportError
        If a step fails. The repository is then as it was.
    """
    registered = registry.resolve(uri)
    repository = Repository(root)
    card = published_card(registered, repository, settings, on_progress, precision)
    manifest = None
    if before := card is not None:
        on_progress(f"{title(registered)} is published already")
    else:
        candidate = verify(
            registered,
            repository,
            settings,
            tiles,
            trial=None,
            profile=profile or settings.device(),
            precision=precision,
            fields=fields,
            on_progress=on_progress,
            converter=converter,
        )
        publish(candidate, repository, on_progress)
        card, manifest = candidate.card, candidate.manifest
        before = candidate.published_before
    assert card is not None
    if serve:
        with repository.locked(registered.name):
            # The version before stays loaded until the new one has proved itself.
            others = champions_of(card.name, repository).aliases().values()
            wanted = {registered.version, *others}
            repository.list_versions(card, wanted, settings, profile or settings.device())
    return ExportedVersion(
        registered.name,
        registered.version,
        repository.where(registered.name, registered.version),
        card,
        manifest,
        published_before=before,
    )


def verify(
    registered: RegisteredVersion,
    repository: Repository,
    settings: ModelConfig,
    tiles: GoldenTiles,
    *,
    trial: Trial | None,
    profile: str,
    precision: Precision = "fp32",
    fields: Fields | None = None,
    on_progress: Progress = lambda _: None,
    converter: Converter = convert.convert,
) -> Candidate:
    """Ask a version everything, and record the answers in its MLflow run; publish nothing.

    The answers of a version that is published already are put beside it, too.

    Parameters
    ----------
    registered
        The version.
    repository
        Has the champion to compare with, and the version itself if it is published already: then
        that very file is measured.
    trial
        If None, only the graph and parity are asked for.
    fields
        Without a trial: makes the fields that travel with the version. With one, the trial's do.
    settings, tiles, profile, precision, on_progress, converter
        As `export` takes them.

    Raises
    ------
    GateError
        If a gate refuses; the manifest says which, with its figures.
    ExportError
        If the version cannot be loaded or measured.
    """
    published = published_card(registered, repository, settings, on_progress, precision)
    champion = None
    if trial is not None:
        champion = champions_of(registered.name, repository).rival(registered.version)
    began, seconds = time.monotonic(), {}
    tested = under_test(
        registered,
        repository,
        settings,
        tiles,
        published=published,
        champion=champion,
        trial=trial,
        profile=profile,
        precision=precision,
        on_progress=on_progress,
        converter=converter,
    )
    seconds["converted"] = time.monotonic() - began
    answers = gates.ask(tested, on_answer=seconds.__setitem__)
    passed = all(gate.passed for gate in answers)
    if passed and trial is None and fields is not None and published is None:
        tested.pack(fields())
    tested.finish()
    manifest = Manifest(
        name=registered.name,
        version=registered.version,
        made_at=datetime.now(UTC),
        champion=champion,
        precision=precision,
        profile=profile if trial else None,
        validation=tested.description,
        exporter=tested.exporter,
        warnings=tested.warnings,
        made_with={one: importlib.metadata.version(one) for one in _MADE_WITH}
        | {"opset": str(convert.OPSET)},
        digests=tested.card.digests | {CARD_FILE: digests.of_bytes(tested.card.to_json())},
        gates=answers,
        seconds={step: round(value, 3) for step, value in seconds.items()},
    )
    registry.record(registered, tested.card, manifest)
    if published is not None and trial is not None:
        # What MLflow vouches for is what lies beside the version, so that it keeps its blessing.
        repository.attach(registered.name, registered.version, MANIFEST_FILE, manifest.to_json())
    if manifest.failed:
        raise GateError(manifest)
    return Candidate(
        registered=registered,
        card=tested.card,
        files=tested.files,
        manifest=manifest,
        published_before=published is not None,
    )


def publish(
    candidate: Candidate, repository: Repository, on_progress: Progress = lambda _: None
) -> None:
    """Put a version and its manifest into the repository; nothing serves it yet.

    Raises
    ------
    RepositoryError
        If the repository refuses it.
    """
    name, version = candidate.registered.name, candidate.registered.version
    on_progress(f"publishing {repository.where(name, version)}")
    added = not candidate.published_before
    if added:
        added = repository.publish(candidate.card, candidate.files)
    try:
        repository.attach(name, version, MANIFEST_FILE, candidate.manifest.to_json())
    except BaseException:
        if added:
            repository.remove(name, version)
        raise


def read_manifest(registered: RegisteredVersion, repository: Repository) -> Manifest | None:
    """The manifest of a published version; None if it has none, or not the one MLflow knew of.

    Raises
    ------
    ExportError
        If it cannot be read.
    """
    name, version = registered.name, registered.version
    if (manifest := repository.manifest(name, version)) is None:
        return None
    content = repository.file(name, version, MANIFEST_FILE)
    return manifest if registered.manifest_digest == digests.of_bytes(content) else None
