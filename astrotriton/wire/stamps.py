"""Stamps: many small images in one request, each scored as if it were sent alone."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from astrotriton.wire.confidence import AskedPrevalence
from astrotriton.wire.detections import CandidateIn, ScoredDetection
from astrotriton.wire.fields import FieldError, Hdu, Name, PixelX, PixelY, Probability, Version
from astrotriton.wire.models import ModelRef
from astrotriton.wire.problems import Problem
from astrotriton.wire.runs import InferRequest, InferResponse

#: Stamps that a request may have.
MOST_STAMPS = 1000


class StampIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the stamps: its name, where its candidate is, and how it was taken.

    Raises
    ------
    FieldError
        If one of two coordinates is left out, or one of the values cannot be meant.
    """

    id: Annotated[
        Name | None,
        Meta(
            description="Your name for the stamp and its candidate: `exposure.name` and "
            "`candidate_id` of the answer. Left out: its place in the cube, from 0.",
            examples=["ZTF26aaaaaaa"],
        ),
    ] = None
    x: Annotated[
        PixelX | None, Meta(description="Column of the candidate. Left out: the middle.")
    ] = None
    y: Annotated[PixelY | None, Meta(description="Row of the candidate. Left out: the middle.")] = (
        None
    )
    ra: Annotated[
        Annotated[float, Meta(ge=0.0, lt=360.0)] | None,
        Meta(
            description="ICRS right ascension of the candidate, degrees, with `dec`. A stamp has "
            "no WCS: this is the position that is stored of the candidate, so that a cone finds it."
        ),
    ] = None
    dec: Annotated[
        Annotated[float, Meta(ge=-90.0, le=90.0)] | None, Meta(description="Its declination.")
    ] = None
    mjd_mid: float | None = None
    exposure_time: float | None = None
    filter: str | None = None
    zero_point: float | None = None

    def __post_init__(self) -> None:
        for one, other in (("x", "y"), ("ra", "dec")):
            for given, missing in ((one, other), (other, one)):
                if getattr(self, given) is not None and getattr(self, missing) is None:
                    raise FieldError(missing, f"give it with {given}, or leave both out")
        # What an exposure may say, a stamp may.
        InferRequest(
            mjd_mid=self.mjd_mid, exposure_time=self.exposure_time, zero_point=self.zero_point
        )


class InferStamps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to score the stamps of a cube; every field may be left out.

    Raises
    ------
    FieldError
        As `InferRequest` does.
    """

    stamps: Annotated[
        Annotated[list[StampIn], Meta(max_length=MOST_STAMPS)] | None,
        Meta(description="One for each stamp of the cube, in its order."),
    ] = None
    hdu: Annotated[
        Hdu | None, Meta(description="HDU of the cube. Left out: the first image with data.")
    ] = None
    confidence_threshold: Probability | None = None
    max_false_discovery_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None
    prevalence: AskedPrevalence | None = None
    tta: bool = False
    polarity: Literal[1, -1] | None = None
    seeing_fwhm: Annotated[
        Annotated[float, Meta(gt=0.0, le=1000.0)] | None,
        Meta(description="Full width at half maximum of point sources, pixels."),
    ] = None
    model_version: Version | Literal["champion", "challenger"] | None = None

    def __post_init__(self) -> None:
        self.of(0, (1, 1))

    def of(self, place: int, shape: tuple[int, int]) -> InferRequest:
        """How one of the stamps is scored, of so many rows and columns, pixels."""
        one = StampIn() if self.stamps is None or place >= len(self.stamps) else self.stamps[place]
        name = str(place) if one.id is None else one.id
        middle = [(length - 1) / 2.0 for length in shape]
        return InferRequest(
            candidates=[
                CandidateIn(
                    id=name,
                    x=middle[1] if one.x is None else one.x,
                    y=middle[0] if one.y is None else one.y,
                    ra=_given(one.ra),
                    dec=_given(one.dec),
                )
            ],
            exposure_id=name,
            confidence_threshold=self.confidence_threshold,
            max_false_discovery_rate=self.max_false_discovery_rate,
            prevalence=self.prevalence,
            tta=self.tta,
            polarity=self.polarity,
            seeing_fwhm=self.seeing_fwhm,
            model_version=self.model_version,
            mjd_mid=one.mjd_mid,
            exposure_time=one.exposure_time,
            filter=one.filter,
            zero_point=one.zero_point,
        )


def _given(value: float | None) -> float | UnsetType:
    return UNSET if value is None else value


class ScoredStamp(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a stamp: a run of its own, or the reason why it could not be scored."""

    id: Annotated[str, Meta(description="As it was sent, or its place.")]
    run: InferResponse | None = None
    problem: Problem | None = None

    @property
    def candidate(self) -> ScoredDetection | None:
        """The detection of the stamp's candidate; None if the stamp could not be scored.

        Where another source stands for the candidate, it is that one.
        """
        if self.run is None:
            return None
        own = next(d for d in self.run.detections if d.candidate_id == self.id)
        if own.merged_into is None:
            return own
        return next(d for d in self.run.detections if d.id == own.merged_into)


class InferStampsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The stamps of a request, in the order of the cube."""

    model: ModelRef | None
    stamps: list[ScoredStamp]

    @property
    def run_ids(self) -> list[UUID]:
        """The runs of those that were scored."""
        return [one.run.run_id for one in self.stamps if one.run is not None]
