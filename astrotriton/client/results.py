"""What the clients answer with: the wire's messages, which can show themselves in a notebook."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from astrotriton.client.contents import File
from astrotriton.client.errors import ClientError, UnreadableError
from astrotriton.wire.detections import ScoredDetection, StoredDetection
from astrotriton.wire.runs import InferResponse, RunStatus

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from astropy.table import QTable
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

T = TypeVar("T")

_ROWS = 20  # of a table in a notebook
_CUTOUT = "_cutout"
_EXPOSURE = "_exposure"
_COLUMNS = ("rank", "x", "y", "ra", "dec", "confidence", "is_real", "snr", "mag", "flags")


class Cutout:
    """The picture of a detection; a notebook shows it.

    Attributes
    ----------
    png
        The file, 63x63 pixels.
    """

    def __init__(self, png: bytes) -> None:
        self.png = png

    def __repr__(self) -> str:
        return f"<Cutout, a PNG of {len(self.png)} bytes>"

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> None:
        """Write the PNG."""
        Path(path).write_bytes(self.png)

    def to_array(self) -> "NDArray[np.uint8]":
        """The picture as uint8 (rows, columns), the exposure's first row first; needs Pillow.

        The values are shades for people, stretched around the noise, and no measurements.
        """
        import io

        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self.png)) as image:
            return np.asarray(image.convert("L"))[::-1].copy()


class Detection(ScoredDetection, frozen=True, kw_only=True, dict=True):
    """A scored source of a run."""

    def __repr__(self) -> str:
        return line_of(self)

    def cutout(self) -> Cutout:
        """What it looks like; kept for a run's most confident detections.

        Raises
        ------
        ProblemError
            ``not-found`` if no cut-out of it is kept.
        ClientError
            If it does not come from a `Client`.
        """
        fetch: Callable[[UUID], Cutout] | None = self.__dict__.get(_CUTOUT)
        if fetch is None:
            raise ClientError(
                "this detection has no client to ask: call `client.cutout(detection.id)`, of an"
                " AsyncClient with `await`"
            )
        return fetch(self.id)


class Run(InferResponse, frozen=True, kw_only=True, dict=True):
    """A run: an exposure scored by one model version."""

    detections: list[Detection]  # type: ignore[assignment]  # nobody adds to the list

    def __repr__(self) -> str:
        return (
            f"<Run {self.run_id}: {self.real} real of {len(self.detections)} detections of "
            f"{self.exposure.name or 'an unnamed exposure'}, by {self.model.name} "
            f"{self.model.version}{_flagged(self.flags)}>"
        )

    def _repr_html_(self) -> str:
        shown = self.detections[:_ROWS]
        more = len(self.detections) - len(shown)
        warned = f"<p>Flags: {escape(', '.join(self.flags))}</p>" if self.flags else ""
        rest = f"<p>and {more} less confident: <code>to_table()</code> has all</p>" if more else ""
        return f"<p>{escape(repr(self)[1:-1])}</p>{warned}{html_of(shown)}{rest}"

    @property
    def real(self) -> int:
        """How many detections are called real."""
        return sum(one.is_real for one in self.detections)

    def to_table(self) -> "QTable":
        """The detections as a table of Astropy, with units and the sky as ``coord``.

        See `to_table`. What is known of the run is in the table's ``meta``.
        """
        from astrotriton.client.tables import to_table

        table = to_table(self.detections, flux_unit=self.exposure.flux_unit)
        table.meta.update(
            run_id=str(self.run_id),
            exposure=self.exposure.name,
            filter=self.exposure.filter,
            mjd_mid=self.exposure.mjd_mid,
            time_scale=self.exposure.time_scale,
            model=f"{self.model.name}:{self.model.version}",
            threshold=self.threshold,
            flags=" ".join(self.flags),
        )
        return table

    def to_pandas(self) -> "pd.DataFrame":
        """The detections as a DataFrame, a column for each field; see `to_pandas`."""
        from astrotriton.client.tables import to_pandas

        return to_pandas(self.detections)

    def plot(self, exposure: "File | None" = None, axes: "Axes | None" = None) -> "Axes":
        """The exposure with what was called real; needs Matplotlib.

        Parameters
        ----------
        exposure
            The pixels, if this run's client did not send them: the gateway does not keep them.
            Without them, positions are drawn on an empty frame of the exposure's size.
        axes
            Where it is drawn; a new figure without it.

        Raises
        ------
        UnreadableError
            If the exposure's pixels cannot be read, or are another image's.
        """
        from astrotriton.client.pictures import plot

        return plot(self, self.__dict__.get(_EXPOSURE) if exposure is None else exposure, axes)


class RunState(RunStatus, frozen=True, kw_only=True):
    """A run, and how far it is."""

    result: Run | None = None

    def __repr__(self) -> str:
        why = f": {self.problem.detail}" if self.problem is not None else ""
        return f"<Run {self.run_id} is {self.status}, {self.progress:.0%}{why}>"


class FoundDetection(StoredDetection, frozen=True, kw_only=True, dict=True):
    """A detection that was stored, with its run, exposure and label."""

    def __repr__(self) -> str:
        label = f", labelled {self.label}" if self.label else ""
        return f"{line_of(self)[:-1]}, of {self.exposure.name or 'an unnamed exposure'}{label}>"

    def cutout(self) -> Cutout:
        """What it looks like, as `Detection.cutout` does."""
        return Detection.cutout(self)  # type: ignore[arg-type]


def joined(run: Run, exposure: "File | None", cutout: Callable[[UUID], Cutout] | None) -> Run:
    """A run whose pixels were sent from here, and whose detections know whom to ask."""
    if exposure is not None:
        run.__dict__[_EXPOSURE] = exposure
    for one in run.detections:
        known(one, cutout)
    return run


def known(
    one: Detection | FoundDetection, cutout: Callable[[UUID], Cutout] | None
) -> Detection | FoundDetection:
    """A detection that knows whom to ask for its picture."""
    if cutout is not None:
        one.__dict__[_CUTOUT] = cutout
    return one


def line_of(one: ScoredDetection) -> str:
    """A detection in one line."""
    if one.ra is not None and one.dec is not None:
        place = f"RA {one.ra:.5f} Dec {one.dec:+.5f}"
    elif one.x is not None and one.y is not None:
        place = f"x {one.x:.1f} y {one.y:.1f}"
    else:
        place = "without a place"
    if one.outcome == "kept":
        verdict = "real" if one.is_real else "not real"
        sure = "" if one.confidence is None else f", confidence {one.confidence:.3f}"
        snr = "" if one.snr is None else f", SNR {one.snr:.1f}"
    else:
        verdict = f"{one.outcome} {one.unscored_reason or ''}".strip()
        sure = snr = ""
    flags = _flagged(one.flags)
    return f"<Detection {one.rank}: {place}, {verdict}{sure}{snr}{flags}>"


def html_of(detections: Sequence[ScoredDetection]) -> str:
    """Detections as a table of HTML; what callers named is escaped."""
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(getattr(one, name))}</td>" for name in _COLUMNS) + "</tr>"
        for one in detections
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "—"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case tuple():
            return escape(", ".join(value)) or "—"
    return escape(str(value))


def _flagged(flags: Sequence[str]) -> str:
    return f"; flags {', '.join(flags)}" if flags else ""


def decoded(content: bytes, kind: type[T]) -> T:
    """An answer as its type.

    Raises
    ------
    UnreadableError
        If it is none: an older or newer gateway, or something else at its address.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise UnreadableError(f"the answer is no {kind}: {error}") from error
