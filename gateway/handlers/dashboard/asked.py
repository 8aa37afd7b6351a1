"""What a list on a page is asked for, as its form and its links write it."""

from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.cutouts import Stretch
from astrotriton.gateway.dashboard.places import read_place
from astrotriton.gateway.handlers.queries import evening, names
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.runs import RunFilter
from astrotriton.wire.detections import Label, Outcome, Sort
from astrotriton.wire.fields import Version
from astrotriton.wire.flags import FLAGS
from astrotriton.wire.runs import RunState

_ARCSEC = 1.0 / 3600.0

_Form = TypeVar("_Form", "Asked", "AskedRuns")

_Text = Annotated[str, QueryParameter(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Ratio = Annotated[float, Meta(ge=-1e12, le=1e12)]
_Magnitude = Annotated[float, Meta(ge=-100.0, le=100.0)]
_Radius = Annotated[float, Meta(ge=0.01, le=36_000.0)]
_White = Annotated[float, Meta(gt=0.0, le=50.0)]
_Zoom = Annotated[int, Meta(ge=1, le=8)]
# How a list and what is in it are shown says nothing of which it is.
_SHOWN: dict[str, Any] = {
    "view": "table",
    "go_on": False,
    "stretch": "asinh",
    "white": 50.0,
    "zoom": 1,
}


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which detections a page shows, and in which order; None: any.

    The names are those of ``GET /detections/``, but for the place in the sky: ``place`` is as a
    person writes it, and ``radius`` is in arcseconds. ``view`` is how they are shown, and ``go_on``
    is whether a label leads to the next one. ``stretch``, ``white`` and ``zoom`` are how their
    cut-outs are drawn, as in `Look`.
    """

    run_id: UUID | None = None
    exposure: str | None = None
    model_version: Version | None = None
    is_real: bool | None = None
    outcome: Outcome | None = None
    min_snr: _Ratio | None = None
    max_mag: _Magnitude | None = None
    polarity: Literal["1", "-1"] | None = None
    flag: str | None = None
    label: Label | Literal["none"] | None = None
    disputed: bool | None = None
    night: str | None = None
    place: str | None = None
    radius: _Radius = 5.0
    sort: Sort = "newest"
    view: Literal["table", "pictures"] = "table"
    go_on: bool = False
    stretch: Stretch = "asinh"
    white: _White = 50.0
    zoom: _Zoom = 1

    def wanted(self) -> Filter:
        """The same as services take it.

        Raises
        ------
        InputError
            If the night, the flag or the place is none.
        """
        cone = None
        if self.place is not None:
            ra, dec = read_place(self.place)
            cone = (ra, dec, self.radius * _ARCSEC)
        return Filter(
            run_id=self.run_id,
            exposure=self.exposure,
            model_version=self.model_version,
            is_real=self.is_real,
            outcome=self.outcome,
            min_snr=self.min_snr,
            max_mag=self.max_mag,
            polarity=None if self.polarity is None else int(self.polarity),
            flags=names("flag", self.flag, FLAGS),
            label=self.label,
            disputed=self.disputed,
            night=evening(self.night),
            cone=cone,
        )

    def query(self, **changes: object) -> str:
        """The query of a link to the same list, with something changed; empty if it says nothing.

        It begins with a question mark.
        """
        own = {name: value for name, value in changes.items() if name in self.__struct_fields__}
        said = msgspec.to_builtins(msgspec.structs.replace(self, **own))
        said |= {name: value for name, value in changes.items() if name not in own}
        pairs = [
            (name, str(value).lower() if isinstance(value, bool) else str(value))
            for name, value in said.items()
        ]
        return f"?{urlencode(pairs)}" if pairs else ""

    def of_run(self, run_id: UUID) -> "Asked":
        """The same, of one run alone."""
        return msgspec.structs.replace(self, run_id=run_id)

    def or_of_run(self, run_id: UUID) -> "Asked":
        """The same; or, if it says of no list that it is, the detections of a run by rank."""
        listless = msgspec.structs.replace(self, **_SHOWN) == Asked()
        return self.of_run(run_id) if listless else self

    @property
    def chosen(self) -> bool:
        """Whether it leaves anything out, besides other runs."""
        same = {**_SHOWN, "run_id": None, "sort": "newest"}
        return msgspec.structs.replace(self, **same) != Asked()


async def asked(
    run_id: _Text = "",
    exposure: _Text = "",
    model_version: _Text = "",
    is_real: _Text = "",
    outcome: _Text = "",
    min_snr: _Text = "",
    max_mag: _Text = "",
    polarity: _Text = "",
    flag: _Text = "",
    label: _Text = "",
    disputed: _Text = "",
    night: _Text = "",
    place: _Text = "",
    radius: _Text = "",
    sort: _Text = "",
    view: _Text = "",
    go_on: _Text = "",
    stretch: _Text = "",
    white: _Text = "",
    zoom: _Text = "",
) -> Asked:
    """What a form asks for; the fields that were left empty are sent too, and say nothing.

    Raises
    ------
    InputError
        If a field holds what it cannot.
    """
    given = {
        "run_id": run_id,
        "exposure": exposure,
        "model_version": model_version,
        "is_real": is_real,
        "outcome": outcome,
        "min_snr": min_snr,
        "max_mag": max_mag,
        "polarity": polarity,
        "flag": flag,
        "label": label,
        "disputed": disputed,
        "night": night,
        "place": place,
        "radius": radius,
        "sort": sort,
        "view": view,
        "go_on": go_on,
        "stretch": stretch,
        "white": white,
        "zoom": zoom,
    }
    return _read(given, Asked)


class AskedRuns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which runs a page shows; None: any. The names are those of ``GET /runs/``."""

    status: RunState | None = None
    exposure: str | None = None
    model_version: Version | None = None
    flag: str | None = None
    night: str | None = None

    def wanted(self) -> RunFilter:
        """The same as services take it.

        Raises
        ------
        InputError
            If the night or the flag is none.
        """
        of_exposures = tuple(str(flag) for flag in FLAGS if flag.raised == "exposure")
        return RunFilter(
            status=self.status,
            exposure=self.exposure,
            model_version=self.model_version,
            flags=names("flag", self.flag, of_exposures),
            night=evening(self.night),
        )

    def query(self, after: UUID) -> str:
        """The query of the following page."""
        return f"?{urlencode({**msgspec.to_builtins(self), 'after': str(after)})}"


async def asked_runs(
    status: _Text = "",
    exposure: _Text = "",
    model_version: _Text = "",
    flag: _Text = "",
    night: _Text = "",
) -> AskedRuns:
    """What the form of the runs asks for.

    Raises
    ------
    InputError
        If a field holds what it cannot.
    """
    given = {
        "status": status,
        "exposure": exposure,
        "model_version": model_version,
        "flag": flag,
        "night": night,
    }
    return _read(given, AskedRuns)


def _read(given: dict[str, str], form: type[_Form]) -> _Form:
    said = {name: value.strip() for name, value in given.items() if value.strip()}
    for name, value in said.items():
        try:
            # One at a time, so that the one that is wrong can be named.
            msgspec.convert({name: value}, form, strict=False)
        except msgspec.ValidationError as error:
            what = str(error).partition(" - at")[0]
            raise InputError("invalid-request", name, f"{value!r} cannot be: {what}") from None
    return msgspec.convert(said, form, strict=False)
