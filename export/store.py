"""Where a model repository lies: a folder, or a prefix in an object store."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from astrotriton.export import lease
from astrotriton.export.errors import RepositoryError
from astrotriton.objects import (
    FAULTS,
    Location,
    is_missing,
    is_object_location,
    open_bucket,
    reason_of,
    was_refused,
)

if TYPE_CHECKING:
    from obstore import PutMode

# Seconds for one request: a network of many filters, over a slow line.
_PATIENCE = 900.0

_LOCK_FILE = "lock"


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
        """Keep other publishers out of a folder; it waits while one is in."""
        ...


def open_store(location: str | Path) -> Store:
    """The store at ``s3://bucket/prefix``, in another object store, or in a folder.

    `astrotriton.objects` says where keys, region and endpoint come from.

    Raises
    ------
    RepositoryError
        If the location is of another kind.
    """
    text = str(location)
    if is_object_location(text):
        try:
            return Bucket(Location.parse(text))
        except ValueError as error:
            raise RepositoryError(f"{text} is no model repository: {error}") from error
    if "://" in text:
        raise RepositoryError(f"{text} is no model repository: give a folder, or s3://bucket/x")
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
        with _making(path) as part:
            _write(part, content)
            part.replace(path)
            _sync(path.parent)

    def add_folder(self, key: str, files: Mapping[str, bytes], *, last: str) -> None:
        """See `Store.add_folder`; here nobody sees anything but the whole."""
        path = self.root / key
        with _making(path) as part:
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
            _remove(leftover)

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
    """A store in an object store (Cloudflare R2, AWS, SeaweedFS, Google, Azure, ...).

    Parameters
    ----------
    location
        Keys are ``prefix/model/version/file``, its key being the prefix.
    """

    def __init__(self, location: Location) -> None:
        self.location = str(location)
        prefix = location.key.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        # The store refuses what arrives damaged.
        own = {"checksum_algorithm": "sha256"} if location.scheme == "s3" else {}
        self._objects = open_bucket(location, timeout=_PATIENCE, config=own)

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        return self._get(key)[0]

    def replace(self, key: str, content: bytes, *, before: bytes | None) -> None:
        """See `Store.replace`; the store itself compares, so that no two writers can both win."""
        mode: PutMode
        try:
            now, tag = self._get(key)
            mode = {"e_tag": tag}
        except FileNotFoundError:
            now, mode = None, "create"
        if now == before:
            with contextlib.suppress(AlreadyExistsError, PreconditionError, FileExistsError):
                self.put(key, content, mode)
                return
        raise RepositoryError(
            f"{self.location}/{key} was changed by somebody else meanwhile: run it again"
        )

    def add_folder(self, key: str, files: Mapping[str, bytes], *, last: str) -> None:
        """See `Store.add_folder`."""
        for name in sorted(files, key=lambda name: name == last):
            with self._told(key):
                obstore.put(self._objects, f"{self._prefix}{key}/{name}", files[name])

    def holds(self, key: str, *, last: str) -> bool:
        """See `Store.holds`."""
        try:
            with self._told(f"{key}/{last}", missing_ok=True):
                obstore.head(self._objects, f"{self._prefix}{key}/{last}")
        except FileNotFoundError:
            return False
        return True

    def remove_folder(self, key: str, *, last: str) -> None:
        """See `Store.remove_folder`."""
        with self._told(key):
            pages = obstore.list(self._objects, f"{self._prefix}{key}/")
            keys = [found["path"] for page in pages for found in page]
        keys.sort(key=lambda found: not found.endswith(f"/{last}"))
        for found in keys:
            with self._told(key):
                obstore.delete(self._objects, found)

    def folders(self, key: str) -> list[str]:
        """See `Store.folders`."""
        with self._told(key):
            where = f"{self._prefix}{key}/" if key else self._prefix
            found = obstore.list_with_delimiter(self._objects, where)
        return [path.rpartition("/")[2] for path in found["common_prefixes"]]

    def remove_leftovers(self, key: str) -> None:
        """See `Store.remove_leftovers`; here they are overwritten when their turn comes."""

    def remove(self, key: str) -> None:
        """See `Store.remove`."""
        with self._told(key), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._objects, self._prefix + key)

    def locked(self, key: str) -> AbstractContextManager[None]:
        """One publisher at a time, by an object that it keeps renewing."""
        return lease.holding(_Lock(self, f"{key}/{_LOCK_FILE}"))

    def tag(self, key: str) -> str | None:
        """The entity tag of an object; None if it is not there."""
        try:
            with self._told(key, missing_ok=True):
                return obstore.head(self._objects, self._prefix + key)["e_tag"]
        except FileNotFoundError:
            return None

    def put(self, key: str, content: bytes, mode: "PutMode") -> str | None:
        """Write an object that is as ``mode`` says; its entity tag then."""
        with self._told(key):
            return obstore.put(self._objects, self._prefix + key, content, mode=mode)["e_tag"]

    def _get(self, key: str) -> tuple[bytes, str | None]:
        with self._told(key, missing_ok=True):
            found = obstore.get(self._objects, self._prefix + key)
            return bytes(found.bytes()), found.meta["e_tag"]

    @contextmanager
    def _told(self, key: str, *, missing_ok: bool = False) -> Iterator[None]:
        """Tell a fault of the store as a `RepositoryError` or `FileNotFoundError`."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError, FileExistsError):
            raise
        except FAULTS as error:
            if missing_ok and is_missing(error):
                raise FileNotFoundError(f"{self.location}/{key}") from error
            if was_refused(error):
                raise RepositoryError(
                    f"{self.location} refuses {key}: {reason_of(error)}"
                ) from error
            raise RepositoryError(
                f"{self.location} cannot be reached; check the store's endpoint and keys, such as "
                f"AWS_ENDPOINT_URL_S3 and AWS_* ({reason_of(error)})"
            ) from error


@dataclass(frozen=True, slots=True)
class _Lock:
    """An object as `astrotriton.export.lease` takes it."""

    bucket: Bucket
    key: str

    def tag(self) -> str | None:
        return self.bucket.tag(self.key)

    def put(self, content: bytes, mode: "PutMode") -> str | None:
        return self.bucket.put(self.key, content, mode)

    def remove(self) -> None:
        self.bucket.remove(self.key)


@contextmanager
def _making(path: Path) -> Iterator[Path]:
    """Where something is made before it gets its name; a fault is told, and leaves nothing."""
    part = path.with_name(f".{path.name}-part")
    try:
        yield part
    except BaseException as error:
        _remove(part)
        if isinstance(error, OSError):
            raise RepositoryError(f"{path} cannot be written: {error.strerror}") from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
