"""The model repository: version folders that are whole or absent, and the ``config.pbtxt`` beside.

Layout, which export, gateway and stack all read as it is::

    <root>/<name>/config.pbtxt
    <root>/<name>/<version>/model.onnx, golden.npz, card.json
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from detection.config import Device, ModelConfig
from detection.errors import CardError
from detection.model import UNetModel
from export import digests
from export.errors import RepositoryError

MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "card.json"
CONFIG_FILE = "config.pbtxt"

PROFILES = Path(__file__).resolve().parents[1] / "triton-config" / "profiles"

_HEADER = "# Written by export from the model's card and triton-config/profiles/; edit those.\n"


def build_config(
    card: UNetModel, settings: ModelConfig, device: Device, versions: Iterable[int]
) -> triton.ModelConfig:
    """Triton's configuration of a model.

    The version policy is ``specific``. Under ``latest`` a folder that is merely there would be
    loaded by the next restart of any Triton, proven or not, and the version before would be dropped
    when a newer one comes, even if it is the one that answers. So versions are listed, and
    publishing a folder and serving it are two steps. Nor does the list cost a reload: Triton leaves
    a loaded version alone when only its policy or instances change.

    Parameters
    ----------
    card
        Names and shapes of input and output.
    settings
        ``batch_size`` becomes ``max_batch_size``.
    device
        Which profile in ``triton-config/profiles/`` to use.
    versions
        The versions to load.

    Raises
    ------
    RepositoryError
        If the profile is missing or is not part of a model configuration.
    """
    config = triton.ModelConfig(
        name=card.name,
        backend="onnxruntime",
        max_batch_size=settings.batch_size,
        input=[
            triton.ModelInput(
                name=card.input.name, data_type=triton.TYPE_FP32, dims=card.input.shape[1:]
            )
        ],
        output=[
            triton.ModelOutput(
                name=card.output.name, data_type=triton.TYPE_FP32, dims=card.output.shape[1:]
            )
        ],
    )
    config.version_policy.specific.versions.extend(sorted(versions))
    profile = PROFILES / f"{device}.pbtxt"
    try:
        text_format.Merge(profile.read_text(), config)
    except OSError as error:
        raise RepositoryError(f"the {device} profile cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise RepositoryError(f"{profile} is no model configuration: {error}") from error

    batching = config.dynamic_batching
    preferred = [size for size in batching.preferred_batch_size if size <= settings.batch_size]
    batching.preferred_batch_size[:] = preferred
    # Warmed up before the version is ready, at the sizes that it will meet most.
    for size in sorted({1, *(preferred or [settings.batch_size])}):
        warmup = config.model_warmup.add(name=f"batch of {size}", batch_size=size)
        tile = warmup.inputs[card.input.name]
        tile.data_type = triton.TYPE_FP32
        tile.dims.extend(card.input.shape[1:])
        # Random bits would hold NaN and denormals.
        tile.zero_data = True
    return config


def publish(
    root: Path, card: UNetModel, files: Mapping[str, bytes], settings: ModelConfig, device: Device
) -> Path:
    """Add a version folder, and list it for Triton to load.

    The folder appears whole or not at all, its digests verified. Publishing the same content again
    changes nothing.

    Parameters
    ----------
    root
        The model repository; made if it is not there.
    card
        With its version and the digests of ``files``.
    files
        Contents of ``model.onnx`` and ``golden.npz`` by file name.

    Returns
    -------
    Path
        The version's folder.

    Raises
    ------
    RepositoryError
        If that version is there with other content, or what was written does not read back.
    """
    folder = folder_of(root, card.name, card.version)
    model = folder.parent
    model.mkdir(parents=True, exist_ok=True)
    with _locked(model):
        for leftover in model.glob(".[0-9]*-part"):
            shutil.rmtree(leftover)
        if not folder.exists():
            _write_folder(folder, {**files, CARD_FILE: card.to_json()})
        elif (there := read(folder)) != card:
            raise RepositoryError(
                f"{folder} already holds this version with other {_differing(there, card)}: a"
                " published version never changes; register the model as a new version, or delete"
                " that folder if nothing serves it"
            )
        _list_version(folder, card, settings, device)
    return folder


def serve(folder: Path, card: UNetModel, settings: ModelConfig, device: Device) -> None:
    """List a published version for Triton to load, with these settings and on this device.

    Raises
    ------
    RepositoryError
        If ``config.pbtxt`` or the profile is damaged.
    """
    with _locked(folder.parent):
        _list_version(folder, card, settings, device)


def folder_of(root: Path, name: str, version: int | None) -> Path:
    """Where a version is published.

    Raises
    ------
    ValueError
        If the version has no number yet.
    """
    if version is None:
        raise ValueError(f"{name} has no version: only a registered model is published")
    return root / name / str(version)


def read(folder: Path) -> UNetModel:
    """The card of a published version, after checking every file against its digest.

    Raises
    ------
    RepositoryError
        Naming the file that is missing or damaged.
    """
    return _verify(folder, folder.parent.name, folder.name)


def _verify(folder: Path, name: str, version: str) -> UNetModel:
    remedy = f"delete {folder} and export the version again"
    try:
        card = UNetModel.from_json((folder / CARD_FILE).read_bytes())
        if (card.name, str(card.version)) != (name, version):
            raise RepositoryError(
                f"{folder / CARD_FILE} is of {card.name} version {card.version}: {remedy}"
            )
        if missing := {MODEL_FILE, GOLDEN_FILE} - card.digests.keys():
            raise RepositoryError(
                f"{folder / CARD_FILE} has no digest of {', '.join(sorted(missing))}: {remedy}"
            )
        for file, digest in card.digests.items():
            if digests.of_file(folder / file) != digest:
                raise RepositoryError(
                    f"{folder / file} is damaged (its SHA-256 is not the card's): {remedy}"
                )
    except (OSError, CardError) as error:
        raise RepositoryError(f"{folder} is damaged: {error}; {remedy}") from error
    return card


def _list_version(folder: Path, card: UNetModel, settings: ModelConfig, device: Device) -> None:
    """Write ``config.pbtxt`` for this version and the one listed before it."""
    path = folder.parent / CONFIG_FILE
    version = int(folder.name)
    others = [
        other
        for other in _listed(path)
        if other != version and (folder.parent / str(other)).is_dir()
    ]
    # The version before stays loaded until the new one has proved itself, and for a way back.
    config = build_config(card, settings, device, {version, *sorted(others)[-1:]})
    content = (_HEADER + text_format.MessageToString(config)).encode()
    if path.exists() and path.read_bytes() == content:
        return
    part = path.with_name(f".{path.name}-part")
    _write(part, content)
    part.replace(path)
    _sync(folder.parent)


def _listed(path: Path) -> list[int]:
    config = triton.ModelConfig()
    try:
        text_format.Parse(path.read_text(), config)
    except FileNotFoundError:
        return []
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path} is damaged: delete it and export again ({error})") from error
    return list(config.version_policy.specific.versions)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    part = folder.with_name(f".{folder.name}-part")
    part.mkdir()
    for name, content in files.items():
        _write(part / name, content)
    _sync(part)
    _verify(part, folder.parent.name, folder.name)
    part.rename(folder)
    _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(model: Path) -> Iterator[None]:
    """One publisher at a time; the kernel lets go of the lock when its holder dies."""
    handle = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _differing(there: UNetModel, card: UNetModel) -> str:
    return ", ".join(
        name for name in card.__struct_fields__ if getattr(there, name) != getattr(card, name)
    )
