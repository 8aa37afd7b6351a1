"""Objects in object stores, out of the buckets that the settings allow and no others."""

from collections.abc import Callable

import obstore
from obstore.exceptions import NotFoundError, PermissionDeniedError

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.gateway.deadline import remaining
from astrotriton.gateway.errors import DependencyError
from astrotriton.objects import FAULTS, Location, Objects, open_bucket, reason_of

DEPENDENCY = "s3"
_CHUNK = 4 * 1024 * 1024


class ObjectStore:
    """Reads and writes objects.

    The credentials are those of the environment, ``AWS_ACCESS_KEY_ID`` and the like. A caller says
    the bucket and the key, and nothing of where the store is.

    Parameters
    ----------
    buckets
        The only buckets that are touched, as `Location.store` names them.
    endpoint
        The S3 store; None: as the environment says, or AWS.
    region
        Its region.
    timeout
        Seconds to read an object.
    """

    def __init__(
        self, buckets: list[str], *, endpoint: str | None, region: str, timeout: float
    ) -> None:
        self._buckets = buckets
        self._endpoint = endpoint
        self._region = region
        self._timeout = timeout

    def check(self, url: str, field: str) -> None:
        """See whether an object may be read, without asking the store.

        Raises
        ------
        InputError
            If it is no ``s3://bucket/key``, or its bucket is not allowed.
        """
        self._allowed(url, field)

    async def read(
        self, url: str, field: str, most: int, hold: Callable[[int], None] = lambda count: None
    ) -> bytes:
        """An object.

        Parameters
        ----------
        url
            ``s3://bucket/key``.
        field
            The part of the request that names it.
        most
            Bytes that it may have.
        hold
            Told how many it has before they are read.

        Raises
        ------
        InputError
            If it is no such URL, its bucket is not allowed, or there is no such object.
        TooLargeError
            If it is larger.
        DependencyError
            If the store does not answer.
        """
        bucket, key = self._place(url, field)
        try:
            found = await obstore.get_async(bucket, key)
            if found.meta["size"] > most:
                raise TooLargeError(field, f"{found.meta['size']} bytes, over {most}")
            hold(found.meta["size"])
            content = bytearray()
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                content += chunk
                if len(content) > most:
                    raise TooLargeError(field, f"over {most} bytes")
        except (NotFoundError, FileNotFoundError) as error:
            raise InputError("no-such-object", field, f"there is no {url}") from error
        except (PermissionDeniedError, PermissionError) as error:
            raise InputError("object-not-readable", field, f"{url} may not be read") from error
        except FAULTS as error:
            # What the store says may quote the request, signature and all.
            raise DependencyError(
                DEPENDENCY, f"{url} cannot be read now ({type(error).__name__})"
            ) from error
        return bytes(content)

    async def names(self, prefix: str, field: str, most: int) -> list[str]:
        """Names of the objects under a prefix, those in deeper folders left out.

        Parameters
        ----------
        prefix
            ``s3://bucket/prefix``.
        field
            The part of the request that names it.
        most
            How many there may be.

        Raises
        ------
        InputError
            If it is no such URL, or its bucket is not allowed.
        TooLargeError
            If there are more.
        DependencyError
            If the store does not answer.
        """
        bucket, key = self._place(prefix, field)
        found: list[str] = []
        try:
            async for objects in obstore.list(bucket, f"{key}/"):
                names = (one["path"].removeprefix(f"{key}/") for one in objects)
                found += [name for name in names if "/" not in name]
                if len(found) > most:
                    raise TooLargeError(field, f"over {most} objects lie under {prefix}")
        except FAULTS as error:
            raise DependencyError(
                DEPENDENCY, f"{prefix} cannot be listed now ({type(error).__name__})"
            ) from error
        return sorted(found)

    async def is_empty(self, prefix: str) -> bool:
        """Whether there is no object under a prefix, in folders of any depth.

        Parameters
        ----------
        prefix
            ``s3://bucket/prefix``.

        Raises
        ------
        InputError
            If it is no such URL, or its bucket is not one of these.
        DependencyError
            If the store does not answer.
        """
        bucket, key = self._place(prefix, "prefix")
        try:
            async for objects in obstore.list(bucket, f"{key}/"):
                if objects:
                    return False
        except FAULTS as error:
            raise DependencyError(
                DEPENDENCY, f"{prefix} cannot be listed now ({reason_of(error)})"
            ) from error
        return True

    async def write(self, url: str, content: bytes) -> None:
        """Write an object, whole or not at all.

        Raises
        ------
        InputError
            If it is no ``s3://bucket/key``, or its bucket is not one of these.
        DependencyError
            If the store does not take it.
        """
        bucket, key = self._place(url, "url")
        try:
            await obstore.put_async(bucket, key, content)
        except FAULTS as error:
            raise DependencyError(
                DEPENDENCY, f"{url} cannot be written now ({type(error).__name__})"
            ) from error

    def _allowed(self, url: str, field: str) -> Location:
        try:
            location = Location.parse(url)
        except ValueError as error:
            raise InputError("bad-url", field, f"{error}; nothing else is fetched") from error
        if not location.key or location.key.endswith("/"):
            raise InputError("bad-url", field, "give `s3://bucket/key`; nothing else is fetched")
        if location.store not in self._buckets:
            raise InputError(
                "bucket-not-allowed", field, f"the bucket {location.store!r} is not allowed"
            )
        return location

    def _place(self, url: str, field: str) -> tuple[Objects, str]:
        """An open bucket and the key in it, if they are allowed."""
        location = self._allowed(url, field)
        try:
            bucket = open_bucket(
                location,
                timeout=remaining(self._timeout),
                endpoint=self._endpoint,
                region=self._region,
            )
        except FAULTS as error:  # credentials that are missing, and the like
            raise DependencyError(
                DEPENDENCY, f"{location.store} cannot be opened ({type(error).__name__})"
            ) from error
        return bucket, location.key
