"""Which model is served and how: the settings that export, gateway and stack share."""

import logging
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.wire.models import MODEL_NAME, served_name

_log = logging.getLogger(__name__)

Device = Literal["cpu", "gpu"]


class ModelConfig(BaseSettings):
    """Settings of the served model, read from the environment as ``ASTROTRITON_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="ASTROTRITON_", frozen=True, protected_namespaces=(), extra="ignore"
    )

    model_name: Annotated[str, BeforeValidator(served_name)] = Field(
        "unet_astronomical",
        title="Model name",
        description="Name in the MLflow registry, which is also the name in Triton, with `_` for "
        "blanks and what else Triton does not take.",
        pattern=rf"^{MODEL_NAME}$",
    )
    model_version: str = Field(
        "latest",
        title="Model version",
        description="A version number, or `latest`: the highest version that Triton serves.",
        pattern=r"^(latest|[1-9][0-9]*)$",
    )
    confidence_threshold: float = Field(
        0.5,
        title="Confidence threshold",
        description="A detection of at least this confidence is answered as real.",
        ge=0.0,
        le=1.0,
    )
    batch_size: int = Field(
        32, title="Batch size", description="Most tiles in one Triton batch.", ge=1, le=1024
    )
    input_size: tuple[int, int] = Field(
        (512, 512),
        title="Input size",
        description='Height and width of a tile in pixels, as JSON: "[512, 512]".',
    )
    enable_gpu: bool = Field(
        True,
        title="Enable GPU",
        description="Serve on the GPU. Where there is none, on the CPU, with one warning.",
    )

    def device(self) -> Device:
        """Where to serve: the GPU if it is asked for and there is one, else the CPU."""
        if not self.enable_gpu:
            return "cpu"
        if Path("/dev/nvidiactl").exists():
            return "gpu"
        _warn_of_no_gpu()
        return "cpu"


@cache
def _warn_of_no_gpu() -> None:
    """Warn once, however often the device is asked for."""
    _log.warning("enable_gpu is set, but this machine has no NVIDIA GPU: serving on the CPU")


class GateSettings(GateLimits, BaseSettings):
    """The limits of the gates, read from the environment as ``ASTROTRITON_GATE_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="ASTROTRITON_GATE_", frozen=True, protected_namespaces=(), extra="ignore"
    )
