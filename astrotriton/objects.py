"""Object stores: how a place in one is written, and the stores that obstore opens.

A further kind of store is a further line of `_KINDS`, and its class in `Objects`. Keys and
endpoints come from the environment, as each kind documents them: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_DEFAULT_REGION`` and ``AWS_ENDPOINT_URL_S3`` for S3,
``GOOGLE_APPLICATION_CREDENTIALS`` for Google Cloud Storage, ``AZURE_STORAGE_ACCOUNT_NAME`` and
``AZURE_STORAGE_ACCOUNT_KEY`` for Azure.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeAlias

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore, S3Store

Objects: TypeAlias = S3Store | GCSStore | AzureStore
"""An open bucket, as the functions of obstore take it."""

#: What any of them may raise; some of its faults are Python's own, such as `FileNotFoundError`.
FAULTS = (BaseError, OSError)

_KINDS: dict[str, Callable[..., Objects]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
#: What a location begins with, and how that is shown to people.
SCHEMES = tuple(_KINDS)
#: A location with something in its bucket, as a JSON Schema has it.
PREFIX_PATTERN = rf"^({'|'.join(_KINDS)})://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]/.+$"

_LOCATION = re.compile(
    rf"(?P<scheme>{'|'.join(_KINDS)})://"
    r"(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<key>[^\x00-\x1f\x7f]*))?"
)
_LONGEST = 1024
_CODE = re.compile(r"<Code>(\w+)</Code>")


class Location(NamedTuple):
    """A place in an object store.

    Attributes
    ----------
    scheme
        The kind of store, one of `SCHEMES`.
    bucket
        Of the store (a container, in Azure).
    key
        In the bucket; empty for the bucket itself.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``s3://bucket/key``.

        Raises
        ------
        ValueError
            If it is none, or could mean another place than it says: a key with ``..`` in it.
        """
        match = _LOCATION.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise ValueError("give `s3://bucket/key`")
        key = match["key"] or ""
        if key and {".", "..", ""} & set(key.removesuffix("/").split("/")):
            raise ValueError("give `s3://bucket/key`, without empty parts, `.` or `..` in the key")
        return cls(match["scheme"], match["bucket"], key)

    @property
    def store(self) -> str:
        """The bucket, as settings name it: S3's by its name alone, others with their scheme."""
        return self.bucket if self.scheme == "s3" else f"{self.scheme}://{self.bucket}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")


def is_object_location(text: str) -> bool:
    """Whether a text names an object store, rightly or not, and no folder."""
    return text.startswith(tuple(f"{scheme}://" for scheme in _KINDS))


def open_bucket(
    location: Location,
    *,
    timeout: float,
    endpoint: str | None = None,
    region: str | None = None,
    config: dict[str, Any] | None = None,
) -> Objects:
    """The bucket of a location; nothing is asked of the store yet.

    Parameters
    ----------
    location
        Its key does not matter.
    timeout
        Seconds that one request may take.
    endpoint, region
        Of an S3 store; None: as the environment says, or AWS.
    config
        What else obstore shall know of the store, such as its keys.
    """
    own: dict[str, Any] = dict(config or {})
    if location.scheme == "s3":
        own |= {"endpoint": endpoint} if endpoint is not None else {}
        own |= {"region": region} if region is not None else {}
    return _KINDS[location.scheme](
        location.bucket,
        config=own,
        client_options={
            "allow_http": True,
            "connect_timeout": "5s",
            "read_timeout": "60s",
            "timeout": f"{max(round(timeout), 1)}s",
        },
        retry_config={"max_retries": 2},
    )


def is_missing(error: BaseException) -> bool:
    """Whether there is no such object; a bucket that is not there is another fault."""
    missing = isinstance(error, (NotFoundError, FileNotFoundError))
    return missing and "NoSuchBucket" not in str(error)


def was_refused(error: BaseException) -> bool:
    """Whether a store answered, with a refusal; otherwise it could not be reached."""
    return _CODE.search(str(error)) is not None or "non-2xx" in str(error)


def reason_of(error: BaseException) -> str:
    """What a store says of a fault, in a line without the request that it quotes."""
    code = _CODE.search(str(error))
    if code is not None:
        return code[1]
    return str(error).partition("\n")[0].strip() or type(error).__name__
