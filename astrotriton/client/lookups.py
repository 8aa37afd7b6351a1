"""What can be asked of a gateway besides scoring: each call and its answer, for both clients."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
import msgspec

from astrotriton.client.results import FoundDetection
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.canary import Canary
from astrotriton.wire.detections import ConfidenceDerivation, Label, LabelIn, Outcome
from astrotriton.wire.drift import BaselineIn, DriftBaseline, DriftCheck
from astrotriton.wire.exposures import Plane
from astrotriton.wire.health import Health
from astrotriton.wire.labels import LabelPage
from astrotriton.wire.models import ModelInfo, PrevalenceIn, Route, RouteIn, RoutePrevalence
from astrotriton.wire.performance import Performance
from astrotriton.wire.runs import RunPage, RunState, RunStatus
from astrotriton.wire.validation import ValidateIn, Validation

if TYPE_CHECKING:
    from astropy.coordinates import Angle, SkyCoord
    from astropy.units import Quantity

T = TypeVar("T")

#: A place in the sky: a SkyCoord in any frame, or ICRS right ascension and declination in degrees.
Place: TypeAlias = "SkyCoord | tuple[float, float]"
#: An angle: a Quantity or an Angle of Astropy, or degrees.
Radius: TypeAlias = "Quantity | Angle | float"
#: A version: its UUID, ``NAME:VERSION`` or ``NAME@alias``.
Model: TypeAlias = UUID | str


#: What to `follow` after: the place before the first detection that there is.
BEGINNING = UUID(int=0)


class Exposures(TypedDict, total=False):
    """Of which exposures something is looked for; what is left out does not matter.

    Attributes
    ----------
    exposure, filter
        Its name, and its filter as its header or the request names it.
    model_version
        That scored it.
    since, until
        When it was scored, the end excluded; with a time zone.
    observed_since, observed_until
        Mid-exposure, likewise.
    night
        The date of its evening: mid-exposure is within 24 hours from 12:00 UTC of it.
    flag
        Names of flags that are raised, with commas between them.
    after
        Of what lay before: the ``next`` of a page, or the id of the last one.
    """

    exposure: str
    filter: str
    model_version: int
    since: datetime
    until: datetime
    observed_since: datetime
    observed_until: datetime
    night: date | str
    flag: str
    after: UUID | str


class FollowQuery(Exposures, total=False):
    """Which detections are followed; what is left out does not matter.

    Attributes
    ----------
    run_id, is_real, outcome, label
        What they are of, and what is said of them.
    min_confidence, max_confidence, min_snr, max_snr, min_mag, max_mag, polarity
        What was measured.
    without_flag
        Names of flags that are not raised, with commas between them.
    """

    run_id: UUID | str
    is_real: bool
    outcome: Outcome
    label: Label | Literal["none"]
    min_confidence: float
    max_confidence: float
    min_snr: float
    max_snr: float
    min_mag: float
    max_mag: float
    polarity: Literal[1, -1]
    without_flag: str


class Query(FollowQuery, total=False):
    """Which detections are looked for; what is left out does not matter.

    Attributes
    ----------
    disputed
        Whether another version judged it otherwise, on the same exposure.
    sort
        As ``-snr``. In the order of commits, ``committed``, it ends with what there is now: come
        back with ``after``, the id of the last one, or use `follow`.
    limit
        How many come at a time; all come in the end.
    """

    disputed: bool
    sort: str
    limit: int


class RunQuery(Exposures, total=False):
    """Which runs are looked for; what is left out does not matter.

    Attributes
    ----------
    status
        How far they are.
    limit
        How many come at a time; all come in the end.
    """

    status: RunState
    limit: int


class LabelQuery(TypedDict, total=False):
    """Which labels are looked for; what is left out does not matter.

    Attributes
    ----------
    label, author
        What was said, and by whom.
    run_id, exposure, model_version
        Of which run; of exposures of this name; of what this version scored.
    since, until
        When they were given, the end excluded; with a time zone.
    history
        Also what the same person said before, and labels taken back.
    after
        Of what lay before: the id of the last one.
    limit
        How many come at a time; all come in the end.
    """

    label: Label
    author: str
    run_id: UUID | str
    exposure: str
    model_version: int
    since: datetime
    until: datetime
    history: bool
    after: UUID | str
    limit: int


class Page(msgspec.Struct, frozen=True):
    """Some of the detections that match."""

    detections: list[FoundDetection]
    next: UUID | None = None


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A request, and the type of its answer.

    Attributes
    ----------
    method, path
        What is called.
    answer
        The type of what comes back.
    parameters
        Of the query; None is left out.
    body
        A message that is sent as JSON.
    """

    method: Literal["GET", "POST", "PUT", "PATCH"]
    path: str
    answer: type[T]
    parameters: Mapping[str, Any] = {}
    body: msgspec.Struct | None = None

    def request(
        self, client: httpx.Client | httpx.AsyncClient, headers: Mapping[str, str] | None = None
    ) -> httpx.Request:
        """The request, as the client sends it."""
        content = None if self.body is None else msgspec.json.encode(self.body)
        return client.build_request(
            self.method,
            self.path,
            params={name: _text(v) for name, v in self.parameters.items() if v is not None},
            content=content,
            headers={
                **(headers or {}),
                **({} if content is None else {"Content-Type": "application/json"}),
            },
        )

    def after(self, last: UUID) -> "Call[T]":
        """The call for the page that follows."""
        return msgspec.structs.replace(self, parameters={**self.parameters, "after": last})


def find(query: Query, cone: Mapping[str, float] | None = None) -> Call[Page]:
    """The first page of detections."""
    return Call(
        method="GET",
        path="/detections/",
        answer=Page,
        parameters={"limit": 1000, **query, **(cone or {})},
    )


def stream(query: FollowQuery) -> Call[FoundDetection]:
    """``GET /detections/stream``."""
    return Call(
        method="GET", path="/detections/stream", answer=FoundDetection, parameters={**query}
    )


def runs(query: RunQuery) -> Call[RunPage]:
    """The first page of runs."""
    return Call(method="GET", path="/runs/", answer=RunPage, parameters={"limit": 100, **query})


def labels(query: LabelQuery) -> Call[LabelPage]:
    """The first page of labels."""
    return Call(
        method="GET", path="/labels/", answer=LabelPage, parameters={"limit": 1000, **query}
    )


def cancel(run_id: UUID | str) -> Call[RunStatus]:
    """``POST /runs/{id}/cancel``."""
    return Call(method="POST", path=f"/runs/{_part(run_id)}/cancel", answer=RunStatus)


def cone(centre: Place, radius: Radius) -> dict[str, float]:
    """The parameters of a search around a place.

    Parameters
    ----------
    centre, radius
        Of the cone.
    """
    if isinstance(centre, tuple):
        ra, dec = centre
    else:
        ra, dec = float(centre.icrs.ra.deg), float(centre.icrs.dec.deg)
    degrees = radius if isinstance(radius, float | int) else radius.to_value("deg")
    return {"ra": ra % 360.0, "dec": dec, "radius": float(degrees)}


def detection(detection_id: UUID | str) -> Call[FoundDetection]:
    """``GET /detections/{id}``."""
    return Call(method="GET", path=f"/detections/{_part(detection_id)}", answer=FoundDetection)


def explain(detection_id: UUID | str) -> Call[ConfidenceDerivation]:
    """``GET /detections/{id}/confidence``."""
    path = f"/detections/{_part(detection_id)}/confidence"
    return Call(method="GET", path=path, answer=ConfidenceDerivation)


def cutout(detection_id: UUID | str, plane: Plane = "difference") -> Call[bytes]:
    """``GET /detections/{id}/cutout.png``."""
    path = f"/detections/{_part(detection_id)}/cutout.png"
    parameters = {} if plane == "difference" else {"plane": plane}
    return Call(method="GET", path=path, answer=bytes, parameters=parameters)


def cutout_file(detection_id: UUID | str) -> Call[bytes]:
    """``GET /detections/{id}/cutout.fits``."""
    path = f"/detections/{_part(detection_id)}/cutout.fits"
    return Call(method="GET", path=path, answer=bytes)


def label(
    detection_id: UUID | str, verdict: Label | None, comment: str | None
) -> Call[FoundDetection]:
    """``PATCH /detections/{id}``."""
    return Call(
        method="PATCH",
        path=f"/detections/{_part(detection_id)}",
        answer=FoundDetection,
        body=LabelIn(label=verdict, comment=comment),
    )


def models() -> Call[list[ModelInfo]]:
    """``GET /models/``."""
    return Call(method="GET", path="/models/", answer=list[ModelInfo])


def of_model(
    model: Model, what: str, answer: type[T], method: Literal["GET", "POST"] = "GET", **query: Any
) -> Call[T]:
    """What is asked of a version: the version itself, or a part of it."""
    path = "/".join(["/models", _part(model), *filter(None, [what])])
    return Call(method=method, path=path, answer=answer, parameters=query)


def model(named: Model) -> Call[ModelInfo]:
    """``GET /models/{id}``."""
    return of_model(named, "", ModelInfo)


def performance(named: Model, window: str) -> Call[Performance]:
    """``GET /models/{id}/performance``."""
    return of_model(named, "performance", Performance, window=window)


def agreement(named: Model, other: Model, window: str) -> Call[Agreement]:
    """``GET /models/{id}/agreement``."""
    return Call(
        method="GET",
        path=f"/models/{_part(named)}/agreement",
        answer=Agreement,
        parameters={"with": other, "window": window},
    )


def validations(named: Model, limit: int) -> Call[list[Validation]]:
    """``GET /models/{id}/validations``."""
    return of_model(named, "validations", list[Validation], limit=limit)


def drift_checks(named: Model, limit: int) -> Call[list[DriftCheck]]:
    """``GET /models/{id}/drift``."""
    return of_model(named, "drift", list[DriftCheck], limit=limit)


def check_drift(named: Model, window: str) -> Call[DriftCheck]:
    """``POST /models/{id}/drift``."""
    return of_model(named, "drift", DriftCheck, "POST", window=window)


def accept_drift(named: Model, baseline: BaselineIn) -> Call[DriftBaseline]:
    """``PUT /models/{id}/drift/baseline``."""
    path = f"/models/{_part(named)}/drift/baseline"
    return Call(method="PUT", path=path, answer=DriftBaseline, body=baseline)


def route(name: str) -> Call[Route]:
    """``GET /models/{name}/route``."""
    return Call(method="GET", path=f"/models/{_part(name)}/route", answer=Route)


def put_route(name: str, wanted: RouteIn) -> Call[Route]:
    """``PUT /models/{name}/route``."""
    return Call(method="PUT", path=f"/models/{_part(name)}/route", answer=Route, body=wanted)


def prevalence(name: str) -> Call[RoutePrevalence]:
    """``GET /models/{name}/prevalence``."""
    return Call(method="GET", path=f"/models/{_part(name)}/prevalence", answer=RoutePrevalence)


def put_prevalence(name: str, wanted: PrevalenceIn) -> Call[RoutePrevalence]:
    """``PUT /models/{name}/prevalence``."""
    path = f"/models/{_part(name)}/prevalence"
    return Call(method="PUT", path=path, answer=RoutePrevalence, body=wanted)


def canary(name: str) -> Call[Canary]:
    """``GET /models/{name}/canary``."""
    return Call(method="GET", path=f"/models/{_part(name)}/canary", answer=Canary)


def validate(named: Model, how: ValidateIn) -> Call[Validation]:
    """``POST /models/{id}/validate``."""
    path = f"/models/{_part(named)}/validate"
    return Call(method="POST", path=path, answer=Validation, body=how)


def validation(validation_id: UUID | str) -> Call[Validation]:
    """``GET /validations/{id}``."""
    return Call(method="GET", path=f"/validations/{_part(validation_id)}", answer=Validation)


def drift(check_id: UUID | str) -> Call[DriftCheck]:
    """``GET /drift/{id}``."""
    return Call(method="GET", path=f"/drift/{_part(check_id)}", answer=DriftCheck)


def dependencies() -> Call[Health]:
    """``GET /health/dependencies``."""
    return Call(method="GET", path="/health/dependencies", answer=Health)


def _part(given: object) -> str:
    """A part of a path, whatever characters a name has."""
    return quote(str(given), safe=":@")


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
    return str(value)
