"""A survey's exposures and labels, from files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from astrotriton.adaptation.survey import Label, UnfitError
from astrotriton.client.calls import is_reference
from astrotriton.client.night import options_of
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.planes import Planes, apply_planes
from astrotriton.detection.image.reading import read_image
from astrotriton.label_tables import LabelTable, LabelTableError


def read_survey_exposure(
    path: str,
    patterns: Mapping[str, str],
    hdus: Mapping[str, int | str],
) -> Exposure:
    """Read an exposure with its planes.

    Parameters
    ----------
    path
        Of a file.
    patterns
        By plane (``mask``, ``weight``, ``science``, ``template``), the path of its file, in which
        ``{folder}``, ``{stem}`` and ``{name}`` of the exposure are filled in.
    hdus
        By plane, and by ``exposure``, its index or EXTNAME; a plane that has no file of its own is
        an HDU of the exposure's.

    Raises
    ------
    UnfitError
        If a file cannot be read, or a plane is not on the exposure's pixels.
    """
    if is_reference(path):
        raise UnfitError(f"{path}: copy the exposures into a folder; they are read many times")
    try:
        files = {
            plane: Path(str(file)).read_bytes()
            for plane, file in options_of(path, dict(patterns)).items()
        }
        named = {f"{plane}_hdu": hdu for plane, hdu in hdus.items() if plane != "exposure"}
        planes = msgspec.structs.replace(Planes(), **files, **named)
        exposure, opened = read_image(
            Path(path).read_bytes(), hdu=hdus.get("exposure"), planes=planes
        )
        apply_planes(exposure, opened, planes)
    except InputError as error:
        raise UnfitError(f"{path}: {error.field} {error}") from error
    except OSError as error:
        raise UnfitError(f"{path}: {error}") from error
    return exposure


def read_labels(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a table of labels, by the exposure that they speak of.

    It has the columns ``exposure`` (or ``exposure_id``), ``label`` (or ``real``), and ``x`` and
    ``y``, 0-based pixels, or ``ra`` and ``dec``, degrees. Rows whose label is neither real nor an
    artefact are left out.

    Parameters
    ----------
    path
        CSV, ECSV, VOTable or FITS, as Astropy tells from its name.

    Raises
    ------
    LabelTableError
        If it cannot be read, or a column is missing.
    """
    table = LabelTable(path)
    exposure = table.column("exposure", "exposure_id")
    if not (table.has("x", "y") or table.has("ra", "dec")):
        raise LabelTableError(f"{path}: has no columns x and y, and none ra and dec")
    found = defaultdict(list)
    for row in table.rows:
        if (real := table.real(row)) is not None:
            place = {name: _number(row, name) for name in ("x", "y", "ra", "dec")}
            found[_stem(str(row[exposure]))].append(place | {"real": real})
    return found


def labels_of(
    path: str, exposure: Exposure, known: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Label]:
    """The labels of an exposure, by its pixels; those that lie nowhere on it are left out."""
    rows = known.get(_stem(path), [])
    found = []
    for row in rows:
        x, y = row["x"], row["y"]
        if not np.isfinite((x, y)).all():
            x, y = (
                float(one[0])
                for one in exposure.pixels_of(np.array([row["ra"]]), np.array([row["dec"]]))
            )
        height, width = exposure.shape
        if -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5:
            found.append(Label(x, y, row["real"]))
    return found


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _number(row: Any, name: str) -> float:
    value = row[name] if name in row.colnames else np.nan
    return float(value) if value is not np.ma.masked else np.nan
