"""Labelled exposures, from wherever a data set lies."""

import hashlib
import io
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.labelled import VALIDATION_FILE
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.readers.pool import Readers
from astrotriton.gateway.services.models import ModelService
from astrotriton.objects import SCHEMES, is_object_location

#: The data set that travels with a version.
DEFAULT = "default"
TRUTH_FILE = "truth.json"

_MLFLOW = re.compile(r"runs:/(?P<run>[0-9a-f]{32})/(?P<name>[^\x00-\x1f\x7f]{1,200})")
_MOST_FIELDS = 1000
_LARGEST_TRUTH = 64 * 1024 * 1024

#: Finds the `s3://` address of a data set that an MLflow run has as an input.
FindInput = Callable[[str, str], Awaitable[str]]


class _Transient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: float
    y: float
    snr: Annotated[float, Meta(gt=0.0)]
    polarity: Literal[1, -1] = 1
    fwhm: Annotated[float, Meta(gt=0.0)] | None = None
    hosted: bool = False
    saturated: bool = False


class _Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]
    transients: list[_Transient]
    hdu: Annotated[int, Meta(ge=0)] | str | None = None


class Truth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data set's `truth.json`: the true transients of each of its files."""

    fields: Annotated[list[_Field], Meta(min_length=1, max_length=_MOST_FIELDS)]
    description: str = ""


@dataclass(frozen=True, slots=True)
class LabelledExposure:
    """An exposure whose true transients are known.

    Attributes
    ----------
    name
        Of the file.
    hdu
        The HDU to score; None: the first image.
    truth
        Its transients.
    read
        Gives the file.
    """

    name: str
    hdu: int | str | None
    truth: Transients
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled exposures.

    Attributes
    ----------
    description
        What they are, in words.
    source
        Where they lie.
    digest
        SHA-256 of the truth, or of the whole where it is one file.
    exposures
        At least one.
    """

    description: str
    source: str
    digest: str
    exposures: list[LabelledExposure]


class Datasets:
    """Opens data sets.

    Parameters
    ----------
    models, objects
        Where they lie.
    largest
        Bytes that an exposure may have.
    find_input
        Asks MLflow.
    readers
        Read the one that travels with a version.
    """

    def __init__(
        self,
        models: ModelService,
        objects: ObjectStore,
        largest: int,
        find_input: FindInput,
        readers: Readers,
    ) -> None:
        self._models = models
        self._objects = objects
        self._largest = largest
        self._find_input = find_input
        self._readers = readers

    def check(self, name: str) -> None:
        """See whether a data set may be opened, as far as its name tells.

        Raises
        ------
        InputError
            If it lies outside the buckets that are allowed, or is no name of a data set.
        """
        if name != DEFAULT and not _MLFLOW.fullmatch(name):
            self._objects.check(name.rstrip("/"), "dataset")

    async def open(self, name: str, version: int) -> Dataset:
        """A data set.

        Parameters
        ----------
        name
            `DEFAULT`, ``s3://bucket/prefix`` or ``runs:/RUN_ID/NAME``.
        version
            Whose default that is.

        Raises
        ------
        InputError
            If it cannot be validated on; the field is the file that is wrong.
        DependencyError
            If what it lies in does not answer.
        """
        if name == DEFAULT:
            return await self._default(version)
        if match := _MLFLOW.fullmatch(name):
            name = await self._find_input(match["run"], match["name"])
        return await self._under(name.rstrip("/"))

    async def _default(self, version: int) -> Dataset:
        content = await self._models.file(version, VALIDATION_FILE)
        if content is None:
            raise InputError(
                "no-dataset",
                VALIDATION_FILE,
                f"version {version} came without one: export it again, or name a data set",
            )
        try:
            async with self._readers.session() as session:
                labelled = await session.read_labelled(content)
        except InputError as error:
            raise InputError(error.code, VALIDATION_FILE, error.detail) from error

        def reader(image: np.ndarray) -> Callable[[], Awaitable[bytes]]:
            async def read() -> bytes:
                stream = io.BytesIO()
                np.save(stream, image)
                return stream.getvalue()

            return read

        return Dataset(
            labelled.description,
            f"{self._models.name}:{version}/{VALIDATION_FILE}",
            hashlib.sha256(content).hexdigest(),
            [
                LabelledExposure(f"{VALIDATION_FILE}[{i}]", None, one.transients, reader(one.image))
                for i, one in enumerate(labelled.fields)
            ],
        )

    async def _under(self, prefix: str) -> Dataset:
        names = await self._objects.names(prefix, "dataset", 2 * _MOST_FIELDS)
        if TRUTH_FILE not in names:
            raise InputError(
                "no-truth", TRUTH_FILE, f"there is none under {prefix}, so nothing can be judged"
            )
        content = await self._objects.read(f"{prefix}/{TRUTH_FILE}", TRUTH_FILE, _LARGEST_TRUTH)
        truth = _read_truth(content)
        for field in truth.fields:
            if field.file not in names:
                raise InputError(
                    "no-such-object", field.file, f"{TRUTH_FILE} names it, but {prefix} lacks it"
                )
        known = {field.file for field in truth.fields} | {TRUTH_FILE}
        for name in names:
            if name not in known:
                raise InputError("no-truth", name, f"{TRUTH_FILE} says nothing of it")

        def reader(name: str) -> Callable[[], Awaitable[bytes]]:
            return lambda: self._objects.read(f"{prefix}/{name}", name, self._largest)

        return Dataset(
            truth.description or prefix,
            prefix,
            hashlib.sha256(content).hexdigest(),
            [
                LabelledExposure(
                    field.file,
                    field.hdu,
                    _transients(field.transients),
                    reader(field.file),
                )
                for field in truth.fields
            ],
        )


def _transients(given: Sequence[_Transient]) -> Transients:
    return Transients(
        positions=np.array([(one.x, one.y) for one in given], np.float64).reshape(-1, 2),
        snr=np.array([one.snr for one in given], np.float64),
        polarity=np.array([one.polarity for one in given], np.int8),
        fwhm=np.array([np.nan if one.fwhm is None else one.fwhm for one in given], np.float64),
        hosted=np.array([one.hosted for one in given], bool),
        saturated=np.array([one.saturated for one in given], bool),
    )


def _read_truth(content: bytes) -> Truth:
    try:
        truth = msgspec.json.decode(content, type=Truth)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError("bad-truth", TRUTH_FILE, str(error)) from error
    if not any(field.transients for field in truth.fields):
        raise InputError("no-truth", TRUTH_FILE, "it names no transient at all")
    return truth


def source_of(inputs: list[tuple[str, str]], run_id: str, name: str) -> str:
    """The address of a run's input, out of the names and sources of all of them.

    Raises
    ------
    InputError
        If it has none of that name, or one that does not lie in an object store.
    """
    sources = dict(inputs)
    if name not in sources:
        raise InputError(
            "no-such-dataset",
            "dataset",
            f"run {run_id} has no input {name!r}, only {list(sources)}",
        )
    try:
        found = json.loads(sources[name])
        address = found.get("uri") or found.get("path") or found.get("url")
    except (ValueError, AttributeError):
        address = None
    if not isinstance(address, str) or not is_object_location(address):
        kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InputError(
            "bad-dataset",
            "dataset",
            f"the input {name!r} lies in no object store: log one whose source is {kinds}...",
        )
    return address
