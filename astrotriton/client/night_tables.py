"""The detections of all exposures of a night, in one file."""

import csv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from astrotriton.client.errors import ClientError
from astrotriton.client.tables import columns_of_found, to_table
from astrotriton.wire.columns import CREATOR
from astrotriton.wire.detections import StoredDetection
from astrotriton.wire.runs import InferResponse

if TYPE_CHECKING:
    from astropy.table import QTable


class TableError(ClientError):
    """A table that cannot be written."""


def write_table(folder: Path, answers: dict[str, str], form: str) -> Path:
    """Write the detections of a night, whole or not at all.

    A row has what `to_table` gives of detections that were looked up: their exposure, run, filter,
    time and model version besides what was measured. JSON has each as ``GET /detections/{id}``
    gives it. The rows of an exposure are by rank, and exposures by their paths.

    Parameters
    ----------
    folder
        Of the answers; the file comes into it as ``night`` with the suffix of the format.
    answers
        The file of each exposure's answer in that folder, by the exposure's path.
    form
        A name in `TABLES`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TableError
        If Astropy is missing, which all but CSV and JSON need, or a file cannot be read or written.
    """
    suffix, write = TABLES[form]
    path = folder / f"night{suffix}"
    part = path.with_name(f".{path.name}.part")
    try:
        write(part, _rows(folder, answers))
        part.replace(path)
    except ImportError:
        raise TableError(f"{form} needs Astropy: pip install astropy, or take csv") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise TableError(f"{path}: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return path


def _rows(folder: Path, answers: dict[str, str]) -> Iterator[StoredDetection]:
    for exposure in sorted(answers):
        content = (folder / answers[exposure]).read_bytes()
        run = msgspec.json.decode(content, type=InferResponse)
        for one in run.detections:
            yield StoredDetection(
                **msgspec.structs.asdict(one),
                run_id=run.run_id,
                created_at=run.created_at,
                threshold=run.threshold,
                model=run.model,
                exposure=run.exposure,
            )


def _csv(path: Path, rows: Iterator[StoredDetection]) -> None:
    found = columns_of_found(list(rows))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(found)
        writer.writerows(zip(*found.values(), strict=True))


def _json(path: Path, rows: Iterator[StoredDetection]) -> None:
    with path.open("wb") as file:
        before = b"["
        for row in rows:
            file.write(before + msgspec.json.encode(row))
            before = b",\n"
        file.write(b"[]\n" if before == b"[" else b"]\n")


def _fits(path: Path, rows: Iterator[StoredDetection]) -> None:
    from astropy.io import fits

    table = _table(rows)
    first = fits.PrimaryHDU()
    # By which `exposures_of` tells the file from an exposure.
    first.header["CREATOR"] = CREATOR
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that only a header knows
        fits.HDUList([first, fits.table_to_hdu(table)]).writeto(path, overwrite=True)


def _with_astropy(kind: str) -> Callable[[Path, Iterator[StoredDetection]], None]:
    def write(path: Path, rows: Iterator[StoredDetection]) -> None:
        table = _table(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table.write(path, format=kind, overwrite=True)

    return write


def _table(rows: Iterator[StoredDetection]) -> "QTable":
    table = to_table(rows)
    if "coord" in table.colnames:
        del table["coord"]  # It is `ra` and `dec`, which every format can have.
    return table


#: The suffix of each format, and what writes it.
TABLES: dict[str, tuple[str, Callable[[Path, Iterator[StoredDetection]], None]]] = {
    "csv": (".csv", _csv),
    "ecsv": (".ecsv", _with_astropy("ascii.ecsv")),
    "votable": (".vot", _with_astropy("votable")),
    "fits": (".fits", _fits),
    "json": (".json", _json),
}
