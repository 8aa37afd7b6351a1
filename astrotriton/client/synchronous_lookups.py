"""What the synchronous client can ask besides scoring."""

import time
from collections.abc import Iterator
from typing import Literal, TypeVar, Unpack
from uuid import UUID

import httpx

from astrotriton.client import lookups
from astrotriton.client.events import Events
from astrotriton.client.lookups import (
    Call,
    FollowQuery,
    LabelQuery,
    Model,
    Page,
    Place,
    Query,
    Radius,
    RunQuery,
)
from astrotriton.client.results import Cutout, FoundDetection, decoded, known
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.canary import Canary
from astrotriton.wire.detections import ConfidenceDerivation, Label
from astrotriton.wire.drift import BaselineIn, DriftBaseline, DriftCheck
from astrotriton.wire.exposures import Plane
from astrotriton.wire.health import Health
from astrotriton.wire.labels import StoredLabel
from astrotriton.wire.models import (
    Challenger,
    ModelInfo,
    PrevalenceIn,
    Route,
    RouteIn,
    RoutePrevalence,
)
from astrotriton.wire.performance import Performance
from astrotriton.wire.runs import RunListed, RunStatus
from astrotriton.wire.validation import ValidateIn, Validation

T = TypeVar("T")


class Lookups:
    """Detections, models, validations and drift; `Client` has all of it."""

    _http: httpx.Client

    def _call(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError

    def _open(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError

    def _ask(self, call: Call[T]) -> T:
        return decoded(self._call(call.request(self._http)).content, call.answer)

    def _pages(self, call: Call[Page]) -> Iterator[FoundDetection]:
        while True:
            page = self._ask(call)
            for one in page.detections:
                known(one, self.cutout)
                yield one
            # In the order of commits, a page always has one that follows.
            if page.next is None or not page.detections:
                return
            call = call.after(page.next)

    def detections(self, **query: Unpack[Query]) -> Iterator[FoundDetection]:
        """Every detection that matches, the newest first.

        The next page is asked for when the one before has been gone through, so it costs nothing to
        stop early.

        Parameters
        ----------
        **query
            See `Query`.
        """
        return self._pages(lookups.find(query))

    def follow(self, **query: Unpack[FollowQuery]) -> Iterator[FoundDetection]:
        """Every detection that matches, as it is stored, without an end.

        Each comes once, in the order of commits. A stream that breaks, or that the gateway ends, is
        asked for again behind what came last. Begin with ``after``, the id of the detection that
        you saw last, or with ``BEGINNING`` for the first that there is; without it, with what is
        stored from now on.

        Parameters
        ----------
        **query
            See `FollowQuery`.

        Raises
        ------
        UnreachableError
            If the gateway is not reached again within the client's deadline.
        """
        call, events = lookups.stream(query), Events()
        while True:
            response = self._open(call.request(self._http, events.begin()))
            try:
                for chunk in response.iter_bytes():
                    for event in events.read(chunk):
                        one = decoded(event.data, call.answer)
                        known(one, self.cutout)
                        yield one
            except httpx.TransportError:
                pass  # What it has not brought comes by the next one.
            finally:
                response.close()
            time.sleep(events.pause)

    def runs(self, **query: Unpack[RunQuery]) -> Iterator[RunListed]:
        """Every run that matches, the newest first: complete, or in the background.

        Parameters
        ----------
        **query
            See `RunQuery`.
        """
        call = lookups.runs(query)
        while True:
            page = self._ask(call)
            yield from page.runs
            if page.next is None:
                return
            call = call.after(page.next)

    def labels(self, **query: Unpack[LabelQuery]) -> Iterator[StoredLabel]:
        """Every label that matches, the earliest first: who said what of which detection, and when.

        Parameters
        ----------
        **query
            See `LabelQuery`.
        """
        call = lookups.labels(query)
        while True:
            page = self._ask(call)
            yield from page.labels
            if page.next is None:
                return
            call = call.after(page.next)

    def cancel(self, run_id: UUID | str) -> RunStatus:
        """End a run in the background; nothing of it is stored.

        Raises
        ------
        ProblemError
            If it has ended, 409.
        """
        return self._ask(lookups.cancel(run_id))

    def cone(
        self, centre: Place, radius: Radius, **query: Unpack[Query]
    ) -> Iterator[FoundDetection]:
        """Every detection around a place in the sky, the newest first.

        Parameters
        ----------
        centre
            A SkyCoord, or ICRS right ascension and declination in degrees.
        radius
            A Quantity, or degrees; 10 at most.
        **query
            See `Query`.
        """
        return self._pages(lookups.find(query, lookups.cone(centre, radius)))

    def detection(self, detection_id: UUID | str) -> FoundDetection:
        """A detection by its id."""
        one = self._ask(lookups.detection(detection_id))
        known(one, self.cutout)
        return one

    def explain(self, detection_id: UUID | str) -> ConfidenceDerivation:
        """How a confidence came about: every feature, its weight, and the calibration."""
        return self._ask(lookups.explain(detection_id))

    def cutout(self, detection_id: UUID | str, plane: Plane = "difference") -> Cutout:
        """What a detection looks like, 63x63 pixels; kept for a run's most confident ones.

        Parameters
        ----------
        detection_id
            Of the detection.
        plane
            Which image; science and template are kept where they were sent.

        Raises
        ------
        ProblemError
            ``not-found`` if none is kept.
        """
        return Cutout(self._call(lookups.cutout(detection_id, plane).request(self._http)).content)

    def cutout_file(self, detection_id: UUID | str) -> bytes:
        """The same pixels as a FITS file, an extension for each image that is kept.

        They are kept in 254 levels between 5 sigma below the background and 50 above it: to look at
        and to compare, not to measure.

        Raises
        ------
        ProblemError
            ``not-found`` if none is kept.
        """
        return self._call(lookups.cutout_file(detection_id).request(self._http)).content

    def label(
        self, detection_id: UUID | str, label: Label | None, comment: str | None = None
    ) -> FoundDetection:
        """Store your verdict on a detection; None withdraws it. Needs the scope ``label``.

        Parameters
        ----------
        detection_id
            Of the detection.
        label
            ``real``, ``artefact``, ``unsure``, or None.
        comment
            For whoever reads the history, 2000 characters at most.
        """
        return self._ask(lookups.label(detection_id, label, comment))

    def models(self) -> list[ModelInfo]:
        """The versions that have answered, and those that Triton serves; without their cards."""
        return self._ask(lookups.models())

    def model(self, model: Model) -> ModelInfo:
        """A version and its card, by UUID, ``NAME:VERSION`` or ``NAME@champion``."""
        return self._ask(lookups.model(model))

    def route(self, name: str) -> Route:
        """Which versions of a model answer."""
        return self._ask(lookups.route(name))

    def set_route(self, name: str, champion: int, challenger: Challenger | None = None) -> Route:
        """Choose which versions of a model answer. Needs the scope ``admin``.

        Parameters
        ----------
        name
            Of the model.
        champion
            The version that answers every run that names none.
        challenger
            The version that is tried beside it.
        """
        return self._ask(lookups.put_route(name, RouteIn(champion=champion, challenger=challenger)))

    def prevalence(self, name: str) -> RoutePrevalence:
        """What share of the sources is taken for real, and what share is estimated."""
        return self._ask(lookups.prevalence(name))

    def set_prevalence(
        self, name: str, prevalence: float | Literal["estimated"] | None
    ) -> RoutePrevalence:
        """State what share of the sources is real where a request says none.

        Needs the scope ``admin``.

        Parameters
        ----------
        name
            Of the model.
        prevalence
            The share of all sources that are scored; ``estimated``, as in the exposures that were
            scored lately; None, as in each version's calibration.
        """
        return self._ask(lookups.put_prevalence(name, PrevalenceIn(prevalence=prevalence)))

    def canary(self, name: str) -> Canary:
        """How far the last canary is that was to end by itself."""
        return self._ask(lookups.canary(name))

    def performance(self, model: Model, window: str = "1h") -> Performance:
        """Speed, errors, memory, accuracy, calibration, labels and drift of a version.

        Parameters
        ----------
        model
            UUID, ``NAME:VERSION`` or ``NAME@alias``.
        window
            The time up to now, as ``90m``, ``24h`` or ``7d``.
        """
        return self._ask(lookups.performance(model, window))

    def agreement(self, model: Model, other: Model, window: str = "24h") -> Agreement:
        """What two versions made of the exposures that both have scored.

        The parameters are those of `performance`.
        """
        return self._ask(lookups.agreement(model, other, window))

    def validate(self, model: Model, how: ValidateIn | None = None) -> Validation:
        """Begin to score labelled exposures with a version, in the background.

        Needs the scope ``admin``. A call whose connection breaks is sent again, and may begin two.

        Parameters
        ----------
        model
            UUID, ``NAME:VERSION`` or ``NAME@alias``.
        how
            The data set and what to compare with; without it, those of the version.
        """
        return self._ask(lookups.validate(model, how or ValidateIn()))

    def validation(self, validation_id: UUID | str) -> Validation:
        """A validation, and how far it is."""
        return self._ask(lookups.validation(validation_id))

    def validations(self, model: Model, limit: int = 20) -> list[Validation]:
        """The last validations of a version, the newest first."""
        return self._ask(lookups.validations(model, limit))

    def check_drift(self, model: Model, window: str = "24h") -> DriftCheck:
        """Compare the exposures of a window with what a version expects; scope ``admin``."""
        return self._ask(lookups.check_drift(model, window))

    def drift(self, check_id: UUID | str) -> DriftCheck:
        """A look for drift."""
        return self._ask(lookups.drift(check_id))

    def drift_checks(self, model: Model, limit: int = 20) -> list[DriftCheck]:
        """The last looks for drift of a version, the newest first."""
        return self._ask(lookups.drift_checks(model, limit))

    def accept_drift(self, model: Model, window: str | None) -> DriftBaseline:
        """Compare a version with the exposures of a window from now on; scope ``admin``.

        Parameters
        ----------
        model
            UUID, ``NAME:VERSION`` or ``NAME@alias``.
        window
            As ``7d``; None: again with the exposures that came with the version.
        """
        return self._ask(lookups.accept_drift(model, BaselineIn(window=window)))

    def dependencies(self) -> Health:
        """Every part that the service needs, and whether it is ready."""
        return self._ask(lookups.dependencies())
