"""Detections in the formats that astronomers' tools read."""

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable.tree import CooSys, Param, TableElement, TimeSys, VOTableFile
from astropy.io.votable.tree import Resource as VOResource
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord, Regions

from astrotriton.detection.image.units import parsed
from astrotriton.wire.columns import CREATOR, FLUX_UNIT, Column, columns_of
from astrotriton.wire.detections import ScoredDetection, StoredDetection
from astrotriton.wire.exposures import ExposureInfo
from astrotriton.wire.labels import StoredLabel
from astrotriton.wire.runs import InferResponse

VOTABLE = "application/x-votable+xml"
ECSV = "application/x-ecsv"
DS9 = "application/x-ds9"
FITS = "application/fits"
CSV = "text/csv"

_RADIUS = 2.0 * u.arcsec
_FRAME, _TIME = "icrs", "time"  # ids of a VOTable's COOSYS and TIMESYS
_DESCRIPTION = "Pixels are 0-based, (0, 0) is the centre of the first; the sky is ICRS."
#: What a row of many exposures says of its own.
_OF_EXPOSURE = ("name", "filter", "exposure_time", "flux_unit", "zero_point")
_MJD_UTC = Column(
    name="mjd_utc",
    title="mid-exposure",
    description="Mid-exposure, MJD in UTC.",
    dtype="float64",
    nullable=True,
    unit="d",
    ucd="time.epoch;obs.exposure",
    example=None,
)


class Listing(NamedTuple):
    """Detections to be written.

    Attributes
    ----------
    detections
        The rows.
    kind
        Their type.
    run
        The run that all of them are of; None for those of several.
    shown
        The names of the columns that are written, in their order; None: all.
    """

    detections: Sequence[ScoredDetection]
    kind: type[ScoredDetection]
    run: InferResponse | None = None
    shown: tuple[str, ...] | None = None

    @property
    def exposures(self) -> list[ExposureInfo]:
        """The exposure of each row, where the rows have their own."""
        return [one.exposure for one in self.detections if isinstance(one, StoredDetection)]

    @property
    def flux_unit(self) -> str | None:
        """The unit of every flux; None if it is unknown, or not the same for all."""
        found = {one.flux_unit for one in self.exposures}
        if self.run is not None:
            found.add(self.run.exposure.flux_unit)
        return found.pop() if len(found) == 1 else None

    def columns(self) -> list[tuple[Column, list[Any]]]:
        """The columns, each with its values."""
        found = [
            (column, [getattr(one, column.name) for one in self.detections])
            for column in columns_of(self.kind)
        ]
        if issubclass(self.kind, StoredDetection):
            exposures = self.exposures
            found.append((_MJD_UTC, [_mjd_utc(one) for one in exposures]))
            named = {column.name: column for column in columns_of(ExposureInfo)}
            for name in _OF_EXPOSURE:
                column = named[name]
                if name == "name":
                    column = msgspec.structs.replace(column, name="exposure", ucd="meta.id;obs")
                found.append((column, [getattr(one, name) for one in exposures]))
        if self.shown is None:
            return found
        by_name = {column.name: (column, values) for column, values in found}
        return [by_name[name] for name in self.shown]

    def parameters(self) -> list[tuple[Column, Any]]:
        """What is known of the run and its model, and said once."""
        if (run := self.run) is None:
            return []
        named = {column.name: column for column in columns_of(ExposureInfo)}
        known: list[tuple[Column, Any]] = [
            (_parameter("run_id", "Id of the run.", ucd="meta.id;meta.main"), str(run.run_id)),
            (_parameter("created_at", "When it was scored, UTC."), run.created_at.isoformat()),
            (
                _parameter("model_name", "Model that scored it.", "meta.id;meta.software"),
                run.model.name,
            ),
            (
                _parameter("model_version", "Its version.", "meta.version", "int32"),
                run.model.version,
            ),
            (_parameter("model_digest", "SHA-256 of its card.", "meta.id"), run.model.digest),
            (
                _parameter("threshold", "Least confidence of a real detection.", None, "float64"),
                run.threshold,
            ),
            (_parameter("tta", "Whether with test-time augmentation.", None, "bool"), run.tta),
            (_parameter("exposure_flags", "Flags of the exposure."), " ".join(run.flags)),
            (
                _parameter("exposure", "Name of the exposure.", "meta.id;obs"),
                run.exposure.name,
            ),
            *(
                (column, getattr(run.exposure, name))
                for name, column in named.items()
                if name != "name"
            ),
            (
                _parameter("observed_at", "Mid-exposure, UTC.", "time.epoch;obs.exposure"),
                run.exposure.observed_at and run.exposure.observed_at.isoformat(),
            ),
            (
                _parameter(
                    "limiting_magnitude",
                    "Of a point source of SNR 5.",
                    "phot.mag;stat.max",
                    "float64",
                    "mag",
                ),
                run.image.limiting_magnitude,
            ),
        ]
        return [(column, value) for column, value in known if value not in (None, "")]


def columns_of_stored() -> tuple[str, ...]:
    """The names of the columns that a table of stored detections has."""
    return tuple(column.name for column, _ in Listing([], StoredDetection).columns())


def _parameter(
    name: str,
    description: str,
    ucd: str | None = None,
    dtype: str = "str",
    unit: str | None = None,
) -> Column:
    return Column(
        name=name,
        title=name.replace("_", " "),
        description=description,
        dtype=dtype,
        nullable=True,
        unit=unit,
        ucd=ucd,
        example=None,
    )


def _mjd_utc(exposure: ExposureInfo) -> float | None:
    return None if exposure.observed_at is None else float(Time(exposure.observed_at).utc.mjd)


def _table(listing: Listing) -> Table:
    """A row for each detection, columns as declared; what is unknown is masked."""
    table = Table()
    for column, values in listing.columns():
        unknown = [value is None for value in values]
        known: list[Any] = [0 if value is None else value for value in values]
        if column.dtype == "str":
            known = [" ".join(v) if isinstance(v, tuple) else str(v or "") for v in values]
        unit = listing.flux_unit if column.unit == FLUX_UNIT else column.unit
        table[column.name] = MaskedColumn(
            known,
            mask=unknown,
            dtype=np.dtype(column.dtype),
            unit=None if unit is None else parsed(unit),
            description=" ".join(column.description.partition("\n\n")[0].split()) or None,
        )
    return table


def _votable(listing: Listing) -> bytes:
    """With UCDs and units; the run and its model are PARAMs, and frame and time scale are named."""
    file = VOTableFile(version="1.4")
    resource = VOResource(type="results")
    file.resources.append(resource)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that only their header knows
        table = TableElement.from_table(file, _table(listing))
        resource.tables.append(table)
        table.description = _DESCRIPTION
        resource.coordinate_systems.append(CooSys(ID=_FRAME, system="ICRS"))
        scale = "UTC" if listing.run is None else listing.run.exposure.time_scale
        resource.time_systems.append(
            TimeSys(
                ID=_TIME,
                timeorigin="MJD-origin",
                timescale=scale or "UTC",
                refposition="TOPOCENTER",
            )
        )
        ucds = {column.name: column.ucd for column, _ in listing.columns()}
        for field in table.fields:
            field.ucd = ucds[field.name]
            field.ref = {"ra": _FRAME, "dec": _FRAME, _MJD_UTC.name: _TIME}.get(field.name)
        for column, value in listing.parameters():
            table.params.append(_param(file, column, value))
        content = io.BytesIO()
        file.to_xml(content)
    return content.getvalue()


def _param(file: VOTableFile, column: Column, value: Any) -> Param:
    kinds = {"float64": "double", "int32": "int", "bool": "boolean"}
    text = column.dtype == "str"
    return Param(
        file,
        ID=column.name,
        name=column.name,
        value=str(value) if text else value,
        datatype="unicodeChar" if text else kinds[column.dtype],
        arraysize="*" if text else None,
        unit=column.unit,
        ucd=column.ucd,
        ref=_TIME if column.name == "mjd_mid" else None,
    )


def _ecsv(listing: Listing) -> bytes:
    """With units and descriptions; what is known of the run and its model is in the header."""
    table = _table(listing)
    table.meta["description"] = _DESCRIPTION
    if parameters := listing.parameters():
        table.meta["run"] = {column.name: value for column, value in parameters}
    file = io.StringIO()
    table.write(file, format="ascii.ecsv")
    return file.getvalue().encode()


def _csv(listing: Listing) -> bytes:
    """Column names and rows alone (RFC 4180); what is unknown is empty."""
    columns = listing.columns()
    rows = zip(*(values for _, values in columns), strict=True)
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(column.name for column, _ in columns)
    for row in rows:
        writer.writerow(" ".join(one) if isinstance(one, tuple) else one for one in row)
    return file.getvalue().encode()


def labels_csv(labels: Sequence[StoredLabel], *, heading: bool = True) -> bytes:
    """Labels as CSV (RFC 4180), a column for each field; what is unknown is empty.

    Parameters
    ----------
    heading
        Whether the names of the columns come first.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    if heading:
        writer.writerow(StoredLabel.__struct_fields__)
    for one in labels:
        writer.writerow(msgspec.to_builtins(one).values())
    return file.getvalue().encode()


def _fits(listing: Listing) -> bytes:
    """A binary table with units; text is UTF-8, and what is known of the run is in the header.

    A float that is unknown is NaN, an integer is the column's TNULL, and text is empty. Keywords
    longer than eight characters follow the HIERARCH convention, and a header holds ASCII alone, so
    other characters are written as Python escapes them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that FITS does not know, and of long keywords
        table = _table(listing)
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                table[name] = table[name].filled(np.nan)
        table.convert_unicode_to_bytestring()  # in UTF-8
        hdu = fits.table_to_hdu(table)
        hdu.name = "DETECTIONS"
        hdu.header.add_comment(_DESCRIPTION)
        for column, value in listing.parameters():
            if isinstance(value, str):
                value = value.encode("ascii", "backslashreplace").decode()
            hdu.header[f"HIERARCH {column.name}"] = value
        first = fits.PrimaryHDU()
        first.header["CREATOR"] = CREATOR
        file = io.BytesIO()
        fits.HDUList([first, hdu]).writeto(file)
    return file.getvalue()


def _ds9(listing: Listing) -> bytes:
    """Circles, in the sky where it is known: green for real ones. What has no place has none.

    Comments say what is known of the run, its model and its exposure.
    """
    circles = []
    for d in listing.detections:
        text, colour = {"text": f"{d.rank}"}, {"color": "green" if d.is_real else "red"}
        if d.ra is not None and d.dec is not None:
            centre = SkyCoord(d.ra * u.deg, d.dec * u.deg, frame="icrs")
            circles.append(CircleSkyRegion(centre, _RADIUS, meta=text, visual=colour))
        elif d.x is not None and d.y is not None:
            circles.append(CirclePixelRegion(PixCoord(d.x, d.y), 4.0, meta=text, visual=colour))
    first, *rest = str(Regions(circles).serialize(format="ds9")).split("\n")
    lines = [*filter(None, [first]), *_comments(listing.parameters()), *rest]
    return "\n".join(lines).encode()


def _comments(parameters: Iterable[tuple[Column, Any]]) -> list[str]:
    # ds9 takes what follows a semicolon for the next line.
    return [f"# {column.name} = {value}".replace(";", ",") for column, value in parameters]


#: By media type.
WRITERS: dict[str, Callable[[Listing], bytes]] = {
    VOTABLE: _votable,
    ECSV: _ecsv,
    FITS: _fits,
    CSV: _csv,
    DS9: _ds9,
}
#: Those that are no text.
BINARY = frozenset({FITS})
