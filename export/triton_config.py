"""Triton's ``config.pbtxt`` of a model, from its card, the settings and a profile."""

from collections.abc import Iterable

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from astrotriton.detection.card import ModelCard
from astrotriton.export.errors import RepositoryError
from astrotriton.folders import TRITON_CONFIG
from astrotriton.settings import ModelConfig

CONFIG_FILE = "config.pbtxt"
PROFILES = TRITON_CONFIG / "profiles"

_HEADER = "# Written by export from the model's card and triton-config/profiles/; edit those.\n"


def build_config(
    card: ModelCard, settings: ModelConfig, profile: str, versions: Iterable[int]
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
        Names and shapes of input and outputs.
    settings
        ``batch_size`` becomes ``max_batch_size``.
    profile
        Which of ``triton-config/profiles/`` to use: ``cpu``, ``gpu`` or ``tensorrt``.
    versions
        The versions to load.

    Raises
    ------
    RepositoryError
        If the profile is missing or is not part of a model configuration.
    """
    outputs = {card.output.name: card.output.shape} | card.further_outputs
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
            triton.ModelOutput(name=name, data_type=triton.TYPE_FP32, dims=shape[1:])
            for name, shape in outputs.items()
        ],
    )
    config.version_policy.specific.versions.extend(sorted(versions))
    path = PROFILES / f"{profile}.pbtxt"
    try:
        text_format.Merge(path.read_text(), config)
    except OSError as error:
        raise RepositoryError(f"the {profile} profile cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise RepositoryError(f"{path} is no model configuration: {error}") from error

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


def to_text(config: triton.ModelConfig) -> bytes:
    """The content of a ``config.pbtxt``."""
    return (_HEADER + text_format.MessageToString(config)).encode()


def listed_in(content: bytes) -> list[int]:
    """The versions that a ``config.pbtxt`` has Triton load.

    Raises
    ------
    ValueError
        If it is not one.
    """
    config = triton.ModelConfig()
    try:
        text_format.Parse(content.decode(), config)
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error
    return list(config.version_policy.specific.versions)
