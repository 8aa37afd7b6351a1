"""``truth.json``: the true transients of each file of a labelled data set."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.transients import Transients

TRUTH_FILE = "truth.json"
MOST_FIELDS = 1000

_FileName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]
_Hdu = Annotated[int, Meta(ge=0)] | str


class TrueTransient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transient that is there; pixels are 0-based, and ``fwhm`` is in pixels."""

    x: float
    y: float
    snr: Annotated[float, Meta(gt=0.0)]
    polarity: Literal[1, -1] = 1
    fwhm: Annotated[float, Meta(gt=0.0)] | None = None
    hosted: bool = False
    saturated: bool = False


class TrueField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file and all transients in it: what it does not name is an artefact."""

    file: _FileName
    transients: list[TrueTransient]
    hdu: _Hdu | None = None
    science: _FileName | None = None
    template: _FileName | None = None
    science_hdu: _Hdu | None = None
    template_hdu: _Hdu | None = None


class Truth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a data set says of its files."""

    fields: Annotated[list[TrueField], Meta(min_length=1, max_length=MOST_FIELDS)]
    description: str = ""


def read_truth(content: bytes) -> Truth:
    """Read the content of a ``truth.json``.

    Raises
    ------
    InputError
        ``bad-truth`` if it is none, ``no-truth`` if it names no transient at all.
    """
    try:
        truth = msgspec.json.decode(content, type=Truth)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError("bad-truth", TRUTH_FILE, str(error)) from error
    if not any(one.transients for one in truth.fields):
        raise InputError("no-truth", TRUTH_FILE, "it names no transient at all")
    return truth


def transients_of_truth(given: Sequence[TrueTransient]) -> Transients:
    """The transients of a field, as arrays; an unknown width is NaN."""
    return Transients(
        positions=np.array([(one.x, one.y) for one in given], np.float64).reshape(-1, 2),
        snr=np.array([one.snr for one in given], np.float64),
        polarity=np.array([one.polarity for one in given], np.int8),
        fwhm=np.array([np.nan if one.fwhm is None else one.fwhm for one in given], np.float64),
        hosted=np.array([one.hosted for one in given], bool),
        saturated=np.array([one.saturated for one in given], bool),
    )
