"""A Triton of its own for a version that is tried, as the one-machine stack starts it."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from astrotriton.export.errors import ServingError
from astrotriton.export.sandbox import OpenSandbox
from astrotriton.export.serving import Replica
from astrotriton.stack import PartError
from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import alone
from astrotriton.stack.site import MARK


@dataclass(frozen=True, slots=True)
class LocalSandbox:
    """A running Triton that serves nobody.

    Attributes
    ----------
    address
        ``host:port`` of its gRPC service.
    data
        The data folder that marks its processes.
    """

    address: str
    data: Path

    def memory(self) -> int:
        """Bytes that the server and its processes have for themselves."""
        used = 0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == str(self.data):
                    used += process.memory_full_info().uss
        return used


@contextlib.contextmanager
def open_sandbox(repository: Path) -> Iterator[LocalSandbox]:
    """Start a Triton on a model repository, and stop it again.

    Raises
    ------
    ServingError
        If it does not start.
    """
    with TemporaryDirectory(prefix="astrotriton-triton-") as folder, asyncio.Runner() as runner:
        held = contextlib.AsyncExitStack()
        server = alone(lambda site: triton(site, repository), Path(folder))
        try:
            site = runner.run(held.enter_async_context(server))
        except PartError as error:
            raise ServingError(f"the sandbox cannot be used: {error}") from error
        try:
            yield LocalSandbox(site.addresses.triton_grpc, site.data)
        finally:
            runner.run(held.aclose())


def lent_sandbox(address: str, folder: Path) -> OpenSandbox:
    """Use a Triton that runs beside this process and serves nobody, such as a sidecar's.

    Parameters
    ----------
    address
        ``host:port`` of its gRPC service.
    folder
        Its model repository, empty, which both see under this name. Where its processes can be seen
        and have the folder's name in their environment, as a stack's have theirs, their memory is
        told.
    """

    @contextlib.contextmanager
    def opened(repository: Path) -> Iterator[LocalSandbox]:
        links = [folder / model.name for model in repository.iterdir() if model.is_dir()]
        try:
            for link in links:
                link.unlink(missing_ok=True)
                link.symlink_to(repository / link.name)
            yield LocalSandbox(address, folder)
        finally:
            with Replica(address) as triton:
                for link in links:
                    with contextlib.suppress(ServingError):
                        triton.unload(link.name)
                    link.unlink(missing_ok=True)

    return opened
