"""Model versions, and the routes that say which one answers."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.confidence import PrevalenceEstimate, Share
from astrotriton.wire.fields import Version

#: What a model may be called in Triton, in its repository and in URLs.
MODEL_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"


def served_name(name: str) -> str:
    """What a model of MLflow's is called where it is served.

    MLflow takes any name without ``/`` and ``:``. Triton's Python backends do not start with a
    blank in it, a folder with a dot in front is hidden, and other characters need quoting in shells
    and URLs; so ``_`` takes the place of each.
    """
    return re.sub(r"^\.|[^A-Za-z0-9._-]", "_", name)


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """The model version that answered."""

    name: Annotated[str, Meta(examples=["unet_astronomical"])]
    version: Annotated[int, Meta(description="The version in MLflow and in Triton alike.")]
    digest: Annotated[str, Meta(description="SHA-256 of the weights (`model.onnx`).")]


class VersionRef(msgspec.Struct, frozen=True, kw_only=True):
    """A model version."""

    name: str
    version: int


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A version that has answered, or that is served."""

    id: UUID
    name: str
    version: int
    digest: str
    card_digest: str
    roles: Annotated[
        list[str],
        Meta(description="`champion`, `challenger` or `previous_champion` of the route."),
    ]
    served: Annotated[bool | None, Meta(description="By Triton, now; null if it does not say.")]
    first_used_at: datetime | None
    card: Annotated[dict[str, Any] | None, Meta(description="The model card; not in lists.")] = None


class Challenger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version on trial beside the champion."""

    version: Version
    mode: Annotated[
        Literal["shadow", "canary"],
        Meta(
            description="`shadow`: it scores in the background and is never answered. `canary`: it "
            "answers a share of the runs, always the same exposures."
        ),
    ]
    fraction: Annotated[float, Meta(gt=0.0, le=1.0, description="Share of the runs.")]
    automatic: Annotated[
        bool,
        Meta(
            description="A canary that ends by itself: the gateway sets its fraction, step by "
            "step, and makes it the champion or sends it back."
        ),
    ] = False


class RouteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions of a model shall answer."""

    champion: Annotated[Version, Meta(description="Answers every run that names no version.")]
    challenger: Challenger | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of a model answer."""

    name: str
    champion: int
    challenger: Challenger | None
    previous_champion: Annotated[
        int | None, Meta(description="The version to roll back to; it may still be asked for.")
    ]
    prevalence: Annotated[
        Share | Literal["estimated"] | None,
        Meta(
            description="The share of real sources that confidences hold for where a request says "
            "none; null: that of each version's calibration."
        ),
    ] = None
    updated_at: datetime


class PrevalenceIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What share of the sources is real, where a request does not say it."""

    prevalence: Annotated[
        Share | Literal["estimated"] | None,
        Meta(
            description="A share of all sources that are scored; `estimated`, as in the exposures "
            "that were scored lately; or null, as in each version's calibration.",
            examples=[0.001],
        ),
    ]


class RoutePrevalence(msgspec.Struct, frozen=True, kw_only=True):
    """What share of the sources is taken for real, and what share is estimated."""

    name: str
    prevalence: Share | Literal["estimated"] | None
    estimates: Annotated[
        list[PrevalenceEstimate],
        Meta(
            description="Over the exposures that were scored lately, those whose candidates the "
            "gateway extracted and those whose candidates were sent each by themselves; where too "
            "few are stored there is none."
        ),
    ]
