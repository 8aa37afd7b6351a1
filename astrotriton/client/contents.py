"""What a caller holds in memory, as the bytes of a file.

NumPy, Astropy and pandas are imported where an object of theirs is given, and only there.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from astrotriton.client.errors import UnreadableError
from astrotriton.wire.runs import InferRequest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from astropy.io import fits
    from astropy.nddata import NDData
    from astropy.table import Table

#: An image or a table: a file by its path, or its content; ``s3://bucket/key`` is one that the
#: gateway reads itself. An image may be an ndarray (rows, columns), a masked one, an HDU, an
#: HDUList, a CCDData or an NDData, and a table of candidates a Table of Astropy or a DataFrame.
File: TypeAlias = (
    "str | Path | bytes | np.ndarray[Any, Any] | fits.HDUList | fits.PrimaryHDU | fits.ImageHDU"
    " | fits.CompImageHDU | NDData | Table | pd.DataFrame"
)

# What HDUs are called that an NDData's planes travel in.
_MASK, _UNCERTAINTY, _PSF = "MASK", "UNCERT", "PSFIMAGE"


def file_of(name: str, given: File) -> tuple[str, bytes]:
    """The name and the bytes of a file.

    Parameters
    ----------
    name
        What it is called where it has no name of its own.
    given
        The file, or what it would hold.

    Raises
    ------
    UnreadableError
        If it is none of what `File` names.
    OSError
        If there is no such file, or it cannot be read.
    """
    if isinstance(given, bytes):
        return name, given
    if isinstance(given, str | Path):
        path = Path(given)
        return path.name, path.read_bytes()
    match _origin(given):
        case "numpy":
            return f"{name}.npy", _npy(name, given)
        case "nddata":
            return f"{name}.fits", _fits(_hdus(name, given))
        case "hdus":
            return f"{name}.fits", _fits(given)
        case "hdu":
            from astropy.io import fits

            # A compressed image cannot be a file's first HDU, nor an extension without a first one.
            one = [given] if isinstance(given, fits.PrimaryHDU) else [fits.PrimaryHDU(), given]
            return f"{name}.fits", _fits(fits.HDUList(one))
        case "table":
            return f"{name}.ecsv", _ecsv(given)
        case "pandas":
            return f"{name}.csv", given.to_csv(index=False).encode()  # type: ignore[union-attr]
    raise UnreadableError(
        f"{name}: give a path, bytes, an array, an HDUList, a CCDData or an NDData, not "
        f"{type(given).__name__}"
    )


def with_planes(exposure: File, request: InferRequest | None, given: set[str]) -> InferRequest:
    """A request that names the planes which an NDData brings along.

    Parameters
    ----------
    exposure
        What is scored.
    request
        What the caller asked for; what it says of a plane stays.
    given
        The planes that are sent as files of their own.
    """
    request = request or InferRequest()
    if isinstance(exposure, str | Path | bytes) or _origin(exposure) != "nddata":
        return request
    brought = {
        "mask_hdu": (_MASK, "mask", getattr(exposure, "mask", None)),
        "weight_hdu": (_UNCERTAINTY, "weight", getattr(exposure, "uncertainty", None)),
        "psf_hdu": (_PSF, "psf", getattr(exposure, "psf", None)),
    }
    named = {
        field: hdu
        for field, (hdu, part, value) in brought.items()
        if value is not None and part not in given and getattr(request, field) is None
    }
    return msgspec.structs.replace(request, **named)


def _origin(given: object) -> str | None:
    """What an object is, by the modules of its classes: nothing is imported to find out."""
    for kind in type(given).__mro__:
        home = (kind.__module__ or "").split(".")
        if home[0] == "pandas" and kind.__name__ == "DataFrame":
            return "pandas"
        if home[0] == "numpy" and kind.__name__ == "ndarray":
            return "numpy"
        if home[:2] == ["astropy", "nddata"] and kind.__name__ == "NDData":
            return "nddata"
        if home[:2] == ["astropy", "table"] and kind.__name__ == "Table":
            return "table"
        if home[:3] == ["astropy", "io", "fits"]:
            if kind.__name__ == "HDUList":
                return "hdus"
            if kind.__name__ in ("PrimaryHDU", "ImageHDU", "CompImageHDU"):
                return "hdu"
    return None


def _npy(name: str, given: Any) -> bytes:
    import numpy as np

    if isinstance(given, np.ma.MaskedArray):
        # The gateway leaves out what is NaN.
        kind = given.dtype if given.dtype.kind == "f" else np.dtype(np.float64)
        given = np.ma.filled(given.astype(kind), np.nan)
    given = np.asarray(given)  # of a Quantity its values
    if given.dtype.kind not in "fiub":
        raise UnreadableError(f"{name}: give an array of numbers, not of {given.dtype}")
    if given.dtype.kind == "b":
        given = given.astype(np.uint8)
    file = io.BytesIO()
    np.save(file, given, allow_pickle=False)
    return file.getvalue()


def _hdus(name: str, given: Any) -> Any:
    """Image, mask, uncertainty and PSF of an NDData, as CCDData writes them."""
    import numpy as np
    from astropy import units as u
    from astropy.nddata import CCDData

    unit = given.unit or u.dimensionless_unscaled
    mask = None if given.mask is None else np.broadcast_to(given.mask, np.shape(given.data))
    try:
        # From the arrays alone: an uncertainty knows its parent, which is not to be this copy.
        image = CCDData(np.asarray(given.data), unit=unit, wcs=given.wcs, meta=dict(given.meta))
        image.mask = mask
        if given.uncertainty is not None:
            image.uncertainty = type(given.uncertainty)(
                given.uncertainty.array, unit=given.uncertainty.unit
            )
        image.psf = getattr(given, "psf", None)
        return image.to_hdu(hdu_mask=_MASK, hdu_uncertainty=_UNCERTAINTY, hdu_psf=_PSF)
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"{name}: the NDData cannot be written as FITS: {error}") from error


def _fits(hdus: Any) -> bytes:
    file = io.BytesIO()
    hdus.writeto(file, output_verify="silentfix+ignore")
    return file.getvalue()


def _ecsv(table: Any) -> bytes:
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue().encode()
