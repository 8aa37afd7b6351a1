"""Tables in which people say what is real: CSV, ECSV, VOTable or FITS."""

from pathlib import Path

from astropy.io.registry import IORegistryError
from astropy.table import Row, Table

# Rows that say something else, such as unsure, say nothing.
_WORDS = {"real": True, "true": True, "1": True} | dict.fromkeys(
    ("artefact", "artifact", "bogus", "false", "0"), False
)


class LabelTableError(ValueError):
    """A table of labels that cannot be read, or lacks a column; the message names it."""


class LabelTable:
    """A table of labels.

    Parameters
    ----------
    path
        Its format is told from its name, as Astropy does.

    Attributes
    ----------
    rows
        As they are written.

    Raises
    ------
    LabelTableError
        If it cannot be read, or has no column ``label`` or ``real``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.rows = Table.read(
                path, **({"format": "ascii.csv"} if path.suffix == ".csv" else {})
            )
        except (OSError, ValueError, IORegistryError) as error:
            raise LabelTableError(f"{path}: the labels cannot be read: {error}") from error
        self._label = self.column("label", "real")

    def column(self, *names: str) -> str:
        """The first of these names that a column has.

        Raises
        ------
        LabelTableError
            If none has one.
        """
        for name in names:
            if name in self.rows.colnames:
                return name
        raise LabelTableError(f"{self._path}: has no column {' or '.join(names)}")

    def has(self, *names: str) -> bool:
        """Whether there are all of these columns."""
        return set(names) <= set(self.rows.colnames)

    def real(self, row: Row) -> bool | None:
        """Whether a row says real or artefact; None if it says neither."""
        return _WORDS.get(str(row[self._label]).strip().lower())
