"""Types of single fields that several messages share."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

# What some format or store cannot hold: control characters (PostgreSQL has no NUL), Unicode's ends
# of lines, at which readers of ECSV break a row, and what is no character of XML. Blanks at the
# ends are lost by VOTable and ECSV.
_LOST = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff"

#: A name that every format gives back as it was; `$` alone would let a line end follow.
NAME_PATTERN = rf"^([^ {_LOST}]([^{_LOST}]*[^ {_LOST}])?)?$(?!\n)"

Name = Annotated[str, Meta(max_length=200, pattern=NAME_PATTERN)]


# An empty cell of a table is no id.
CandidateId = Annotated[str, Meta(min_length=1, max_length=200, pattern=NAME_PATTERN)]


Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


Hdu = Annotated[int, Meta(ge=0, le=2**31 - 1)] | Annotated[str, Meta(max_length=68)]


Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


PixelX = Annotated[
    float,
    Meta(
        description="Column in pixels, 0-based: the centre of the first pixel is (0, 0), as in "
        "numpy and SEP. ds9, SExtractor and FITS count from 1: subtract 1.",
        examples=[128.9],
        extra={"unit": "pix"},
    ),
]


PixelY = Annotated[
    float,
    Meta(
        description="Row in pixels, 0-based, by the same convention as `x`.",
        examples=[127.7],
        extra={"unit": "pix"},
    ),
]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The time that a figure is of."""

    since: datetime
    until: datetime
    seconds: float


class FieldError(ValueError):
    """A field that its type allows, and its message does not.

    Parameters
    ----------
    field
        Its name.
    detail
        What is wrong, and what to do about it.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


def printable(name: str | None) -> str | None:
    """A name that comes with a file, as far as it may be stored and shown."""
    return "".join(filter(str.isprintable, name or ""))[:200] or None
