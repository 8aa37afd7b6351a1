"""Labelled exposures of one's own that the gates judge on, in a folder or under a prefix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import obstore

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.planes import Planes, apply_planes
from astrotriton.detection.image.reading import read_image
from astrotriton.detection.quality.labelled import VALIDATION_FILE, LabelledField, ValidationSet
from astrotriton.detection.quality.truth import (
    TRUTH_FILE,
    TrueField,
    read_truth,
    transients_of_truth,
)
from astrotriton.export.errors import ExportError
from astrotriton.objects import (
    FAULTS,
    Location,
    is_missing,
    is_object_location,
    open_bucket,
    reason_of,
)
from astrotriton.wire.exposures import COMPANIONS

_TIMEOUT = 120.0

_Read = Callable[[str], bytes | None]


class ValidationSetError(ExportError):
    """Labelled exposures that cannot be judged on."""


def open_fields(where: str) -> ValidationSet:
    """Read labelled exposures.

    Parameters
    ----------
    where
        A folder or ``s3://bucket/prefix`` with a ``truth.json`` and the files that it names, or
        with a ``validation.fits``.

    Raises
    ------
    ValidationSetError
        If there is neither, or something of it cannot be read.
    """
    read = _reader(where)
    try:
        if (truth := read(TRUTH_FILE)) is not None:
            said = read_truth(truth)
            fields = [_field(read, one) for one in said.fields]
            return ValidationSet(fields, said.description or where)
        if (content := read(VALIDATION_FILE)) is not None:
            return ValidationSet.from_fits(content)
    except InputError as error:
        raise ValidationSetError(f"{where}: {error.field}: {error.detail}") from error
    except ValueError as error:
        raise ValidationSetError(f"{where}: {error}") from error
    raise ValidationSetError(
        f"{where} has no {TRUTH_FILE}, which names the transients of each file, and no"
        f" {VALIDATION_FILE}: docs/labels.md says how to make one"
    )


def _field(read: _Read, one: TrueField) -> LabelledField:
    def content(name: str) -> bytes:
        found = read(name)
        if found is None:
            raise InputError("no-such-object", name, f"{TRUTH_FILE} names it, and it is not there")
        return found

    given: dict[str, Any] = {}
    for companion in COMPANIONS:
        if (file := getattr(one, companion)) is not None:
            given[companion] = content(file)
        given[f"{companion}_hdu"] = getattr(one, f"{companion}_hdu")
    planes = msgspec.structs.replace(Planes(), **given)
    try:
        exposure, opened = read_image(content(one.file), hdu=one.hdu, planes=planes)
        apply_planes(exposure, opened, planes)
    except InputError as error:
        raise InputError(error.code, f"{one.file}, {error.field}", error.detail) from error
    return LabelledField(
        exposure.nan_image(),
        transients_of_truth(one.transients),
        {name: image.nan_image() for name, image in exposure.companions.items()},
    )


def _reader(where: str) -> _Read:
    """Gives the content of a file by its name; None if there is none."""
    if not is_object_location(where):

        def from_folder(name: str) -> bytes | None:
            try:
                return Path(where, name).read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ValidationSetError(f"{where}/{name}: {error.strerror}") from error

        return from_folder
    try:
        location = Location.parse(where)
    except ValueError as error:
        raise ValidationSetError(f"{where}: {error}") from error
    bucket = open_bucket(location, timeout=_TIMEOUT)

    def from_store(name: str) -> bytes | None:
        try:
            return bytes(obstore.get(bucket, f"{location.key.rstrip('/')}/{name}").bytes())
        except FAULTS as error:
            if is_missing(error):
                return None
            raise ValidationSetError(f"{where}/{name}: {reason_of(error)}") from error

    return from_store
