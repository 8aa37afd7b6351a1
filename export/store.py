"""Where a model repository lies: a folder, or a prefix of an S3 bucket."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from astrotriton.export.errors import RepositoryError

if TYPE_CHECKING:
    from botocore.client import BaseClient

# Objects under one S3 delete request.
_S3_PAGE = 1000


class Store(Protocol):
    """Files by key, ``model/version/file``, with what publishing needs of a file system.

    Attributes
    ----------
    location
        For people, and for `open_store`.
    """

    location: str

    def read(self, key: str) -> bytes:
        """Content of a file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        ...

    def replace(self, key: str, content: bytes, *, before: bytes | None) -> None:
        """Put a file in the place of another, in one step.

        Parameters
        ----------
        before
            What its writer saw there; None for nothing.

        Raises
        ------
        RepositoryError
            If somebody else has replaced it meanwhile.
        """
        ...

    def add_folder(self, key: str, files: Mapping[str, bytes], *, last: str) -> None:
        """Add files so that a reader who looks for ``last`` sees all of them or none."""
        ...

    def remove_folder(self, key: str, *, last: str) -> None:
        """Remove what `add_folder` added, under the same promise."""
        ...

    def holds(self, key: str, *, last: str) -> bool:
        """Whether `add_folder` has added a folder, and finished it."""
        ...

    def folders(self, key: str) -> list[str]:
        """Names of the folders in a folder."""
        ...

    def remove_leftovers(self, key: str) -> None:
        """Remove from a folder what a publisher that was killed left in it."""
        ...

    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""
        ...

    def locked(self, key: str) -> AbstractContextManager[None]:
        """Keep other publishers out of a folder, where the store can."""
        ...


def open_store(location: str | Path) -> Store:
    """The store at ``s3://bucket/prefix``, or in a folder.

    S3 takes its keys, region and endpoint from the usual settings of boto3 (``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL_S3``, ...).

    Raises
    ------
    RepositoryError
        If the location is of another kind.
    """
    parts = urlsplit(str(location))
    if parts.scheme == "s3" and parts.netloc:
        return Bucket(parts.netloc, parts.path.strip("/"))
    if parts.scheme:
        raise RepositoryError(f"{location} is no model repository: give a folder, or s3://bucket/x")
    return Folder(Path(location))


class Folder:
    """A store on this machine's disk.

    Parameters
    ----------
    root
        Made when something is first put into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        return (self.root / key).read_bytes()

    def replace(self, key: str, content: bytes, *, before: bytes | None) -> None:
        """See `Store.replace`."""
        path = self.root / key
        now = path.read_bytes() if path.exists() else None
        if now != before:
            raise RepositoryError(f"{path} was changed by somebody else meanwhile: run it again")
        part = path.with_name(f".{path.name}-part")
        _write(part, content)
        part.replace(path)
        _sync(path.parent)

    def add_folder(self, key: str, files: Mapping[str, bytes], *, last: str) -> None:
        """See `Store.add_folder`; here nobody sees anything but the whole."""
        path = self.root / key
        part = path.with_name(f".{path.name}-part")
        part.mkdir()
        for name, content in files.items():
            _write(part / name, content)
            if (part / name).read_bytes() != content:
                raise RepositoryError(
                    f"{part / name} does not read back as written: check the disk"
                )
        _sync(part)
        part.rename(path)
        _sync(path.parent)

    def holds(self, key: str, *, last: str) -> bool:
        """See `Store.holds`."""
        return (self.root / key).is_dir()

    def remove_folder(self, key: str, *, last: str) -> None:
        """See `Store.remove_folder`."""
        path = self.root / key
        part = path.with_name(f".{path.name}-part")
        with contextlib.suppress(FileNotFoundError):
            path.rename(part)
            shutil.rmtree(part)

    def folders(self, key: str) -> list[str]:
        """See `Store.folders`."""
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in (self.root / key).iterdir() if path.is_dir()]
        return []

    def remove_leftovers(self, key: str) -> None:
        """See `Store.remove_leftovers`."""
        for leftover in (self.root / key).glob(".*-part"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    def remove(self, key: str) -> None:
        """See `Store.remove`."""
        (self.root / key).unlink(missing_ok=True)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """One publisher at a time; the kernel lets go of the lock when its holder dies."""
        path = self.root / key
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class Bucket:
    """A store in an S3 bucket (Cloudflare R2, AWS, SeaweedFS, ...).

    Parameters
    ----------
    bucket, prefix
        Keys are ``prefix/model/version/file``.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: BaseClient | None = None

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        return self._get(key)[0]

    def replace(self, key: str, content: bytes, *, before: bytes | None) -> None:
        """See `Store.replace`; the store itself compares, so that no two writers can both win."""
        try:
            now, tag = self._get(key)
        except FileNotFoundError:
            now, tag = None, ""
        if now == before:
            condition = {"IfNoneMatch": "*"} if now is None else {"IfMatch": tag}
            with self._told(key, missing_ok=False) as client:
                try:
                    client.put_object(
                        Bucket=self._bucket, Key=self._prefix + key, Body=content, **condition
                    )
                    return
                except client.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] not in (
                        "PreconditionFailed",
                        "ConditionalRequestConflict",
                    ):
                        raise
        raise RepositoryError(
            f"{self.location}/{key} was changed by somebody else meanwhile: run it again"
        )

    def add_folder(self, key: str, files: Mapping[str, bytes], *, last: str) -> None:
        """See `Store.add_folder`."""
        for name in sorted(files, key=lambda name: name == last):
            with self._told(key, missing_ok=False) as client:
                client.put_object(
                    Bucket=self._bucket,
                    Key=f"{self._prefix}{key}/{name}",
                    Body=files[name],
                    # The store refuses what arrives damaged.
                    ChecksumAlgorithm="SHA256",
                )

    def holds(self, key: str, *, last: str) -> bool:
        """See `Store.holds`."""
        try:
            self._get(f"{key}/{last}")
        except FileNotFoundError:
            return False
        return True

    def remove_folder(self, key: str, *, last: str) -> None:
        """See `Store.remove_folder`."""
        keys = list(self._keys(f"{self._prefix}{key}/"))
        keys.sort(key=lambda found: not found.endswith(f"/{last}"))
        for found in keys:
            with self._told(key, missing_ok=False) as client:
                client.delete_object(Bucket=self._bucket, Key=found)

    def folders(self, key: str) -> list[str]:
        """See `Store.folders`."""
        prefix = f"{self._prefix}{key}/"
        with self._told(key, missing_ok=False) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            return [
                found["Prefix"].removeprefix(prefix).rstrip("/")
                for page in pages
                for found in page.get("CommonPrefixes", [])
            ]

    def remove_leftovers(self, key: str) -> None:
        """See `Store.remove_leftovers`; here they are overwritten when their turn comes."""

    def remove(self, key: str) -> None:
        """See `Store.remove`."""
        with self._told(key, missing_ok=False) as client:
            client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Nothing: S3 has no locks. `replace` notices a second publisher."""
        yield

    def _get(self, key: str) -> tuple[bytes, str]:
        with self._told(key, missing_ok=True) as client:
            answer = client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            return answer["Body"].read(), answer["ETag"]

    def _keys(self, prefix: str) -> Iterator[str]:
        with self._told(prefix, missing_ok=False) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"PageSize": _S3_PAGE}
            )
            for page in pages:
                for found in page.get("Contents", []):
                    yield found["Key"]

    @contextmanager
    def _told(self, key: str, *, missing_ok: bool) -> Iterator[Any]:
        """A client, whose faults are told as a `RepositoryError` or `FileNotFoundError`."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                config = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 3})
                self._client = boto3.session.Session().client("s3", config=config)
            yield self._client
        except ClientError as error:
            if missing_ok and error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise FileNotFoundError(f"{self.location}/{key}") from error
            raise RepositoryError(f"{self.location} refuses {key}: {error}") from error
        except BotoCoreError as error:
            raise RepositoryError(
                f"{self.location} cannot be reached; check AWS_ENDPOINT_URL_S3 and the AWS_* keys"
                f" ({error})"
            ) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
