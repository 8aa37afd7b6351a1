"""Labelled exposures, from wherever a data set lies."""

import hashlib
import io
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.labelled import VALIDATION_FILE
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.quality.truth import (
    MOST_FIELDS,
    TRUTH_FILE,
    read_truth,
    transients_of_truth,
)
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.readers.pool import Readers
from astrotriton.gateway.services.inference import Submission
from astrotriton.gateway.services.models import ModelService
from astrotriton.objects import SCHEMES, is_object_location
from astrotriton.wire.exposures import COMPANIONS, Companion
from astrotriton.wire.runs import InferRequest

#: The data set that travels with a version.
DEFAULT = "default"

_MLFLOW = re.compile(r"runs:/(?P<run>[0-9a-f]{32})/(?P<name>[^\x00-\x1f\x7f]{1,200})")
_LARGEST_TRUTH = 64 * 1024 * 1024

#: Finds the `s3://` address of a data set that an MLflow run has as an input.
FindInput = Callable[[str, str], Awaitable[str]]


_Read = Callable[[], Awaitable[bytes]]


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
    companions
        Give the files of the images that it was made of, as far as they are there.
    companion_hdus
        The HDUs of those images, where they are named: of their files, or of the exposure's own.
    """

    name: str
    hdu: int | str | None
    truth: Transients
    read: _Read
    companions: Mapping[Companion, _Read] = field(default_factory=dict)
    companion_hdus: Mapping[Companion, int | str] = field(default_factory=dict)

    async def submission(self, companions: Collection[Companion]) -> Submission:
        """What the gateway is to score, with these companions, as far as they are there."""
        wanted = [one for one in COMPANIONS if one in companions]
        files: dict[str, bytes] = {
            one: await self.companions[one]() for one in wanted if one in self.companions
        }
        hdus: dict[str, Any] = {
            f"{one}_hdu": self.companion_hdus[one] for one in wanted if one in self.companion_hdus
        }
        return Submission(
            content=await self.read(),
            filename=self.name,
            request=InferRequest(hdu=self.hdu, **hdus),
            **files,
        )


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

        def reader(image: Image) -> _Read:
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
                LabelledExposure(
                    f"{VALIDATION_FILE}[{i}]",
                    None,
                    one.transients,
                    reader(one.image),
                    {name: reader(image) for name, image in one.companions.items()},
                )
                for i, one in enumerate(labelled.fields)
            ],
        )

    async def _under(self, prefix: str) -> Dataset:
        names = await self._objects.names(prefix, "dataset", 2 * MOST_FIELDS)
        if TRUTH_FILE not in names:
            raise InputError(
                "no-truth", TRUTH_FILE, f"there is none under {prefix}, so nothing can be judged"
            )
        content = await self._objects.read(f"{prefix}/{TRUTH_FILE}", TRUTH_FILE, _LARGEST_TRUTH)
        truth = read_truth(content)
        named = [name for one in truth.fields for name in (one.file, one.science, one.template)]
        for name in filter(None, named):
            if name not in names:
                raise InputError(
                    "no-such-object", name, f"{TRUTH_FILE} names it, but {prefix} lacks it"
                )
        known = {*named, TRUTH_FILE}
        for name in names:
            if name not in known:
                raise InputError("no-truth", name, f"{TRUTH_FILE} says nothing of it")

        def reader(name: str) -> _Read:
            return lambda: self._objects.read(f"{prefix}/{name}", name, self._largest)

        return Dataset(
            truth.description or prefix,
            prefix,
            hashlib.sha256(content).hexdigest(),
            [
                LabelledExposure(
                    one.file,
                    one.hdu,
                    transients_of_truth(one.transients),
                    reader(one.file),
                    {name: reader(file) for name in COMPANIONS if (file := getattr(one, name))},
                    {
                        name: hdu
                        for name in COMPANIONS
                        if (hdu := getattr(one, f"{name}_hdu")) is not None
                    },
                )
                for one in truth.fields
            ],
        )


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
