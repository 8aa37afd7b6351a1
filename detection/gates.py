"""What a version must reach to be let through, by its figures on fields whose truth is known."""

import math
from collections.abc import Sequence

import msgspec
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One question that a version had to answer.

    Attributes
    ----------
    name
        ``onnx``, ``parity``, ``detections``, ``accuracy``, ``accuracy_change``, ``calibration``,
        ``sandbox``, ``latency`` or ``memory``.
    passed
        Whether it did.
    detail
        What was found and what is allowed, in words.
    figures
        What was measured, by name; None for what is not a number.
    """

    name: str
    passed: bool
    detail: str
    figures: dict[str, float | None] = {}

    @classmethod
    def of(cls, name: str, problems: Sequence[str], good: str, **figures: float) -> "Gate":
        """A gate that passed if there are no problems, and then says what is good."""
        return cls(
            name=name,
            passed=not problems,
            detail="; ".join(problems) or good,
            figures={
                key: float(value) if math.isfinite(value) else None
                for key, value in figures.items()
            },
        )


class GateLimits(BaseSettings):
    """The limits of the gates, read from the environment as ``ASTROTRITON_GATE_<NAME>``.

    Those that say "than the champion" apply once there is one.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASTROTRITON_GATE_", frozen=True, protected_namespaces=(), extra="ignore"
    )

    min_average_precision: float = Field(
        0.7, title="Least average precision", description="On the validation set.", ge=0, le=1
    )
    min_completeness: float = Field(
        0.7,
        title="Least completeness",
        description="Share of the transients of SNR 8 and more found with confidence 0.5.",
        ge=0,
        le=1,
    )
    max_false_positives: float = Field(
        4.0,
        title="Most false positives",
        description="Detections with confidence 0.5 that are not real, a field.",
        ge=0,
    )
    max_loss: float = Field(
        0.02,
        title="Largest loss of accuracy",
        description="Average precision or completeness below the champion's.",
        ge=0,
        le=1,
    )
    max_ece: float = Field(
        0.05,
        title="Largest calibration error",
        description="Expected calibration error of the confidence on the validation set.",
        ge=0,
        le=1,
    )
    max_latency_ratio: float = Field(
        1.5,
        title="Largest latency",
        description="Of one tile, in units of the champion's in the same sandbox.",
        gt=0,
    )
    max_memory_ratio: float = Field(
        1.5,
        title="Largest memory",
        description="Of the loaded version, in units of the champion's in the same sandbox.",
        gt=0,
    )


def accuracy(figures: dict[str, float], limits: GateLimits) -> Gate:
    """Whether the figures of `detection.validation.figures` are good enough by themselves."""
    problems = [
        *_at_least(figures, "average_precision", limits.min_average_precision),
        *_at_least(figures, "completeness", limits.min_completeness),
        *_at_most(figures, "false_positives_per_field", limits.max_false_positives),
    ]
    good = f"average precision {figures['average_precision']:.3f}"
    return Gate.of(
        "accuracy",
        problems,
        f"{good}, completeness {figures['completeness']:.3f}",
        **{name: value for name, value in figures.items() if name != "ece"},
    )


def accuracy_change(
    figures: dict[str, float], champion: dict[str, float], limits: GateLimits
) -> Gate:
    """Whether they are no worse than the champion's on the same fields."""
    names = ("average_precision", "completeness")
    changes = {name: figures[name] - champion[name] for name in names}
    problems = [
        f"{name} is {figures[name]:.3f}, the champion's is {champion[name]:.3f}; at most"
        f" {limits.max_loss:g} less is allowed"
        for name, change in changes.items()
        if not change >= -limits.max_loss
    ]
    return Gate.of(
        "accuracy_change",
        problems,
        ", ".join(f"{name} {change:+.3f}" for name, change in changes.items()),
        **{f"{name}_change": change for name, change in changes.items()},
        **{f"champion_{name}": champion[name] for name in names},
    )


def calibration(figures: dict[str, float], limits: GateLimits) -> Gate:
    """Whether the confidence says how often it is right."""
    problems = _at_most(figures, "ece", limits.max_ece)
    return Gate.of("calibration", problems, f"ECE {figures['ece']:.4f}", ece=figures["ece"])


def _at_least(figures: dict[str, float], name: str, least: float) -> list[str]:
    # Written so that NaN fails.
    if figures[name] >= least:
        return []
    return [f"{name} is {figures[name]:.3g}, at least {least:g} is asked"]


def _at_most(figures: dict[str, float], name: str, most: float) -> list[str]:
    if figures[name] <= most:
        return []
    return [f"{name} is {figures[name]:.3g}, at most {most:g} is allowed"]
