"""One registered version into the model repository: the gates in their order."""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from astrotriton.detection.assurance.drift import BASELINE_FILE
from astrotriton.detection.assurance.golden import GOLDEN_FILE, TOLERANCE, Golden
from astrotriton.detection.assurance.labelled import VALIDATION_FILE
from astrotriton.detection.card import UNetModel
from astrotriton.detection.scoring.score import Scored
from astrotriton.detection.scoring.tiled_inference import Predict
from astrotriton.export import accuracy as validation
from astrotriton.export import convert, digests, gates, parity, registry
from astrotriton.export.accuracy import ValidationSet
from astrotriton.export.engine import KerasEngine, OnnxEngine, Tiles
from astrotriton.export.errors import (
    ConversionError,
    ExportError,
    GateError,
    ParityError,
    RepositoryError,
)
from astrotriton.export.gates import GateLimits
from astrotriton.export.manifest import Manifest
from astrotriton.export.precision import Precision, reduced
from astrotriton.export.promotion import rival_of
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import CARD_FILE, MANIFEST_FILE, MODEL_FILE, Repository
from astrotriton.export.sandbox import OpenSandbox, Version, try_out
from astrotriton.export.subpixel import fold_upsampling
from astrotriton.settings import ModelConfig
from astrotriton.wire.validation import Gate

if TYPE_CHECKING:
    import keras

GoldenTiles = Callable[[UNetModel], Mapping[str, Tiles]]
Converter = Callable[["keras.Model", UNetModel, str], bytes]
Calibrate = Callable[[UNetModel, Predict], UNetModel]
Progress = Callable[[str], None]
Fields = Callable[[], ValidationSet]

_MADE_WITH = ("keras", "tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime")
# Fields whose detections Keras and ONNX Runtime must agree on; Keras is slow.
_COMPARED_FIELDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a version is tried on, beyond conversion and parity.

    Attributes
    ----------
    validation
        Makes the fields that accuracy and calibration are measured on.
    open_sandbox
        Starts a Triton of its own.
    calibrate
        Fits the card's confidence anew to what the network answers, where the registered one does
        not pass the gate ``calibration``; None leaves it as registered.
    limits
        What is let through.
    """

    validation: Fields
    open_sandbox: OpenSandbox
    calibrate: Calibrate | None = None
    limits: GateLimits


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
    card: UNetModel
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
    card: UNetModel
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
    card = _published(registered, repository, settings, on_progress, precision)
    manifest = None
    if before := card is not None:
        on_progress(f"{_title(registered)} is published already")
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
        aliases = registry.aliases(registered.name)
        with repository.locked(registered.name):
            # The version before stays loaded until the new one has proved itself.
            others = [one for one in repository.listed(card.name) if one != card.version]
            wanted = {registered.version, *(aliases.values() or others[-1:])}
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
    title = _title(registered)
    published = _published(registered, repository, settings, on_progress, precision)
    on_progress(f"loading {title} from MLflow")
    registered_card = published or registry.load_card(registered)
    _check_tile_size(registered_card, settings)
    model = registry.load_keras(registered)
    if published is None:
        digest = _check_source(registered, model, registered_card)
        on_progress(f"converting {title} to ONNX")
        content = converter(model, registered_card, digest)
        if profile == "cpu":  # what it brings on a GPU was not measured
            content = fold_upsampling(content)
        content = reduced(content, registered_card, precision, tiles)
        further = convert.further_outputs(content, registered_card)
        registered_card = msgspec.structs.replace(registered_card, further_outputs=further)
    else:
        content = repository.file(registered.name, registered.version, MODEL_FILE)

    name = registered.name
    champion = rival_of(name, registered.version, repository) if trial else None
    measured = _Measured(registered_card, content)
    if published is not None:
        # What else travels with it was made when it was published, and stays as it is.
        measured.files |= {
            file: repository.file(name, registered.version, file)
            for file in published.digests.keys() - {MODEL_FILE, GOLDEN_FILE}
        }
    source = KerasEngine(model, convert.output_names(model, registered_card), registered_card)
    rival = _version(repository, name, champion)
    chosen: ValidationSet | None = None

    def ask() -> Iterator[None]:
        """Each group of gates in its turn: what fails one would make nonsense of the next."""
        nonlocal chosen
        on_progress("checking the ONNX graph")
        measured.gates.append(_graph(content, measured.card))
        yield
        on_progress("comparing ONNX Runtime with Keras on the golden tiles")
        measured.compare(source, tiles(measured.card), precision)
        yield
        if trial is None:
            if fields is not None and published is None:
                measured.pack(fields().to_fits())
            return
        # What travels with the version is what is measured: its pixels are a little rounded.
        file = trial.validation().to_fits()
        chosen = ValidationSet.from_fits(file)
        on_progress(f"scoring {len(chosen.fields)} validation fields")
        if precision == "fp32":
            measured.compare_detections(chosen, source)
        # What is published stays as it is.
        calibrate = trial.calibrate if published is None else None
        measured.score(chosen, rival, trial.limits, calibrate, on_progress)
        if published is None:
            measured.pack(file)
        yield
        on_progress("trying it in a Triton of its own")
        measured.finish()
        own = Version(measured.card, measured.files)
        measured.gates += try_out(own, rival, trial.open_sandbox, settings, profile, trial.limits)

    for _ in ask():
        if any(not gate.passed for gate in measured.gates):
            break
    measured.finish()
    manifest = Manifest(
        name=name,
        version=registered.version,
        made_at=datetime.now(UTC),
        champion=champion,
        precision=precision,
        profile=profile if trial else None,
        validation=chosen.description if chosen else None,
        made_with={one: importlib.metadata.version(one) for one in _MADE_WITH}
        | {"opset": str(convert.OPSET)},
        digests=measured.card.digests | {CARD_FILE: digests.of_bytes(measured.card.to_json())},
        gates=measured.gates,
    )
    registry.record(registered, measured.card, manifest)
    if manifest.failed:
        raise GateError(manifest)
    return Candidate(
        registered=registered,
        card=measured.card,
        files=measured.files,
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
    try:
        content = repository.file(registered.name, registered.version, MANIFEST_FILE)
    except FileNotFoundError:
        return None
    card = repository.read(registered.name, registered.version)
    manifest = Manifest.from_json(content)
    if manifest.digests.get(CARD_FILE) != digests.of_bytes(card.to_json()):
        return None
    return manifest if registered.manifest_digest == digests.of_bytes(content) else None


class _Measured:
    """A version while it is measured."""

    def __init__(self, card: UNetModel, content: bytes) -> None:
        self.card = card
        self.gates: list[Gate] = []
        self.files = {MODEL_FILE: content}
        self._engine: OnnxEngine | None = None
        self._scored: list[Scored] = []

    @property
    def engine(self) -> OnnxEngine:
        if self._engine is None:
            self._engine = OnnxEngine(self.files[MODEL_FILE], self.card)
        return self._engine

    def compare(
        self, source: KerasEngine, tiles: Mapping[str, Tiles], precision: Precision
    ) -> None:
        """The gate ``parity``; and the golden tile."""
        tolerance = TOLERANCE if precision == "fp32" else 1.0
        try:
            passed = parity.compare(source, self.engine, self.card, tiles, tolerance=tolerance)
        except ParityError as error:
            self.gates.append(Gate.of("parity", [str(error)], "", **error.figures))
            return
        except ConversionError as error:
            self.gates.append(Gate.of("parity", [str(error)], ""))
            return
        golden = passed.golden
        if precision != "fp32":
            # What is served is proven against what the gates measured, and that is this file.
            golden = Golden(golden.image, self.engine(golden.image))
        self.files[GOLDEN_FILE] = golden.to_npz()
        largest = max(one.largest for one in passed.differences.values())
        self.gates.append(Gate.of("parity", [], f"within {largest:.1e} of Keras", **passed.figures))

    def compare_detections(self, fields: ValidationSet, source: KerasEngine) -> None:
        """The gate ``detections``."""
        problems, found = validation.compare_detections(
            fields.fields[:_COMPARED_FIELDS], self.card, source, self.engine
        )
        good = "the same detections as with Keras"
        self.gates.append(Gate.of("detections", problems, good, **found))

    def score(
        self,
        fields: ValidationSet,
        rival: Version | None,
        limits: GateLimits,
        calibrate: Calibrate | None,
        on_progress: Progress,
    ) -> None:
        """The gates ``accuracy``, ``accuracy_change`` and ``calibration``."""
        theirs = None
        if rival is not None:
            engine = OnnxEngine(rival.files[MODEL_FILE], rival.card)
            theirs = validation.evaluate(fields.fields, rival.card, engine)
        figures = self._figures(fields)
        calibrated = gates.calibration(figures, limits, champion=theirs)
        if calibrate is not None and not calibrated.passed:
            on_progress("fitting the confidence to what the network answers")
            before = figures["ece"]
            self.card = calibrate(self.card, self.engine)
            figures = self._figures(fields)
            calibrated = gates.calibration(figures, limits, champion=theirs, before=before)
        self.gates.append(gates.accuracy(figures, limits))
        if theirs is not None:
            self.gates.append(gates.accuracy_change(figures, theirs, limits))
        self.gates.append(calibrated)

    def pack(self, content: bytes) -> None:
        """Add the fields that travel with the version, and how it sees them."""
        fields = ValidationSet.from_fits(content)
        if not self._scored:
            self._figures(fields)
        baseline = validation.baseline_of(self._scored, fields.description)
        self.files |= {VALIDATION_FILE: content, BASELINE_FILE: baseline.to_npz()}

    def _figures(self, fields: ValidationSet) -> dict[str, float]:
        self._scored = validation.score_all(fields.fields, self.card, self.engine)
        return validation.figures_of(self._scored, fields.fields, self.card)

    def finish(self) -> None:
        """Give the card the digests of the files."""
        found = {name: digests.of_bytes(file) for name, file in self.files.items()}
        self.card = msgspec.structs.replace(self.card, digests=found)


def _graph(content: bytes, card: UNetModel) -> Gate:
    """The gate ``onnx``."""
    try:
        figures = convert.inspect(content, card)
    except ConversionError as error:
        return Gate.of("onnx", [str(error)], "")
    return Gate.of("onnx", [], "a valid graph with the card's names and shapes", **figures)


def _version(repository: Repository, name: str, version: int | None) -> Version | None:
    if version is None or not repository.holds(name, version):
        return None
    card = repository.read(name, version)
    files = {file: repository.file(name, version, file) for file in card.digests}
    return Version(card, files)


def _check_source(registered: RegisteredVersion, model: "keras.Model", card: UNetModel) -> str:
    digest = digests.of_source(model, card)
    if registered.digest not in (None, digest):
        raise ExportError(
            f"{_title(registered)} is not what was registered: the weights or the card that MLflow"
            " keeps were changed, or damaged; register the model again"
        )
    return digest


def _check_tile_size(card: UNetModel, settings: ModelConfig) -> None:
    if card.tile_size != settings.input_size:
        raise ExportError(
            f"the tiles of {card.name} version {card.version} are {card.tile_size}, the setting"
            f" input_size is {settings.input_size}: set"
            f" ASTROTRITON_INPUT_SIZE='{list(card.tile_size)}'"
        )


def _published(
    registered: RegisteredVersion,
    repository: Repository,
    settings: ModelConfig,
    on_progress: Progress,
    precision: Precision,
) -> UNetModel | None:
    """The card of a version that is published, after checking that it was made from this source."""
    name, version = registered.name, registered.version
    if not repository.holds(name, version):
        return None
    card = repository.read(name, version)
    _check_tile_size(card, settings)
    noted = convert.metadata(repository.file(name, version, MODEL_FILE))
    expected = registered.digest
    if expected is None:
        # Registered by something else, so its digest is not known without its weights.
        on_progress(f"loading {_title(registered)} from MLflow")
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
            f" MlflowClient().copy_model_version('{registered.uri}', '{name}'), and promote that"
        )
    return card


def _title(registered: RegisteredVersion) -> str:
    return f"{registered.name} version {registered.version}"
