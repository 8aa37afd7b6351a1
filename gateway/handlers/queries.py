"""The query parameters of lists: what is looked for."""

from collections.abc import Collection
from datetime import UTC, date, datetime, time
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.cutouts import Stretch
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.pictures import Look
from astrotriton.wire.detections import Label, Outcome
from astrotriton.wire.exposures import Plane
from astrotriton.wire.flags import FLAGS

_SMALLEST_CONE, _LARGEST_CONE = 1e-6, 10.0
_TEXT = r"^[^\x00-\x1f\x7f]*$"

ExposureName = Annotated[
    str | None,
    QueryParameter(description="Name of the exposure.", max_length=200, pattern=_TEXT),
]
ModelVersion = Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)]
Since = Annotated[
    str | None,
    QueryParameter(description="Scored at this time or later, RFC 3339.", format="date-time"),
]
Until = Annotated[
    str | None,
    QueryParameter(description="Scored before this time, RFC 3339.", format="date-time"),
]
ObservedSince = Annotated[
    str | None,
    QueryParameter(description="Mid-exposure at this time or later, RFC 3339.", format="date-time"),
]
ObservedUntil = Annotated[
    str | None,
    QueryParameter(description="Mid-exposure before this time, RFC 3339.", format="date-time"),
]
Night = Annotated[
    str | None,
    QueryParameter(
        description="Mid-exposure within 24 hours from 12:00 UTC of this date, as Rubin's "
        "`day_obs`; for other nights give `observed_since` and `observed_until`.",
        format="date",
    ),
]
FilterName = Annotated[
    str | None,
    QueryParameter(
        name="filter",
        description="Filter of the exposure, as its header or the request names it.",
        max_length=200,
        pattern=_TEXT,
    ),
]
_Magnitude = Annotated[float | None, QueryParameter(ge=-100.0, le=100.0)]
_Ratio = Annotated[float | None, QueryParameter(ge=-1e12, le=1e12)]
_Share = Annotated[float | None, QueryParameter(ge=0.0, le=1.0)]


async def wanted_detections(
    run_id: Annotated[UUID | None, QueryParameter()] = None,
    exposure: ExposureName = None,
    model_version: ModelVersion = None,
    is_real: Annotated[bool | None, QueryParameter()] = None,
    outcome: Annotated[Outcome | None, QueryParameter()] = None,
    min_confidence: _Share = None,
    max_confidence: _Share = None,
    min_snr: _Ratio = None,
    max_snr: _Ratio = None,
    min_mag: _Magnitude = None,
    max_mag: _Magnitude = None,
    polarity: Annotated[
        Literal["1", "-1"] | None,
        QueryParameter(description="`1`: brightens, `-1`: fades."),
    ] = None,
    flag: Annotated[
        str | None,
        QueryParameter(description="These flags are raised: names with commas between them."),
    ] = None,
    without_flag: Annotated[
        str | None,
        QueryParameter(description="None of these flags is raised: likewise."),
    ] = None,
    label: Annotated[
        Label | Literal["none"] | None,
        QueryParameter(description="What a person said of it last; `none`: nobody said anything."),
    ] = None,
    disputed: Annotated[
        bool | None,
        QueryParameter(
            description="Whether another version judged it otherwise, on the same exposure: one "
            "that scored it too, in the shadow or as it was asked. It is known a moment after."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    observed_since: ObservedSince = None,
    observed_until: ObservedUntil = None,
    night: Night = None,
    taken_through: FilterName = None,
    ra: Annotated[
        float | None,
        QueryParameter(
            description="Of a cone, with `dec` and `radius`: ICRS degrees.", ge=0.0, lt=360.0
        ),
    ] = None,
    dec: Annotated[float | None, QueryParameter(ge=-90.0, le=90.0)] = None,
    radius: Annotated[
        float | None,
        QueryParameter(description="Degrees.", ge=_SMALLEST_CONE, le=_LARGEST_CONE),
    ] = None,
) -> Filter:
    """What a caller looks for among detections."""
    return Filter(
        run_id=run_id,
        exposure=exposure,
        model_version=model_version,
        is_real=is_real,
        outcome=outcome,
        min_confidence=min_confidence,
        max_confidence=max_confidence,
        min_snr=min_snr,
        max_snr=max_snr,
        min_mag=min_mag,
        max_mag=max_mag,
        polarity=None if polarity is None else int(polarity),
        flags=names("flag", flag, FLAGS),
        without_flags=names("without_flag", without_flag, FLAGS),
        label=label,
        disputed=disputed,
        since=moment("since", since),
        until=moment("until", until),
        observed_since=moment("observed_since", observed_since),
        observed_until=moment("observed_until", observed_until),
        night=evening(night),
        filter=taken_through,
        cone=_cone(ra, dec, radius),
    )


async def look_at(
    plane: Annotated[
        Plane, QueryParameter(description="Which image; science and template where they were sent.")
    ] = "difference",
    stretch: Annotated[
        Stretch, QueryParameter(description="How grey grows with the significance.")
    ] = "asinh",
    white: Annotated[
        float,
        QueryParameter(
            description="What is white, in sigma above the background; black is at -5.",
            gt=0.0,
            le=50.0,
        ),
    ] = 50.0,
    zoom: Annotated[
        int,
        QueryParameter(
            description="Show the middle alone, one part in so many of the side.", ge=1, le=8
        ),
    ] = 1,
) -> Look:
    """How a caller wants to see a cut-out."""
    return Look(plane=plane, stretch=stretch, white=white, zoom=zoom)


def moment(field: str, given: str | None) -> datetime | None:
    """A time with its zone, which Litestar would take from a number and without a zone too.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        found: datetime | None = msgspec.convert(given, Annotated[datetime, Meta(tz=True)] | None)
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", field, f"{error}; with its zone, as RFC 3339") from None
    return found


def evening(given: str | None) -> datetime | None:
    """When the night of a date begins: at 12:00 UTC.

    Raises
    ------
    InputError
        If it is no date.
    """
    try:
        day: date | None = msgspec.convert(given, date | None)
    except msgspec.ValidationError as error:
        raise InputError("invalid-request", "night", f"{error}; give YYYY-MM-DD") from None
    # The last day has no night in the calendar that Python knows.
    if day == date.max:
        raise InputError("invalid-request", "night", "give an earlier date")
    return None if day is None else datetime.combine(day, time(12), UTC)


def names(field: str, given: str | None, known: Collection[str]) -> tuple[str, ...]:
    """Names with commas between them, each of those that there are; nothing where none is given.

    Raises
    ------
    InputError
        If there is no such name.
    """
    if given is None:
        return ()
    found = tuple(dict.fromkeys(name.strip() for name in given.split(",")))
    for name in found:
        if name not in known:
            raise InputError("invalid-request", field, f"no {name!r}: give of {', '.join(known)}")
    return tuple(found)


def _cone(
    ra: float | None, dec: float | None, radius: float | None
) -> tuple[float, float, float] | None:
    given = {"ra": ra, "dec": dec, "radius": radius}
    missing = [name for name, value in given.items() if value is None]
    if ra is not None and dec is not None and radius is not None:
        return ra, dec, radius
    if len(missing) < len(given):
        raise InputError("invalid-request", missing[0], "a cone needs `ra`, `dec` and `radius`")
    return None
