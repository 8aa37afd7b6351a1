"""Memory that a Triton of the same host has mapped too: tiles need not go through a socket.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

import asyncio
import itertools
import logging
import math
import mmap
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from astrotriton.triton.statuses import CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE, is_full

_FOLDER = Path("/dev/shm")  # where shm_open of Linux looks names up
_UNKNOWN = "Unable to find shared memory region"
# Ends of requests after which Triton may still read and write, unless it said that it was full.
_UNSETTLED = frozenset({CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE})
# Seconds for which a region is left alone when it is not known whether Triton still uses it.
_REST = 60.0
_PATIENCE = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Region:
    """Memory for one request at a time.

    Attributes
    ----------
    name
        What Triton knows it as.
    content
        All of it, uint8.
    """

    name: str
    content: NDArray[np.uint8]

    def write(self, tiles: NDArray[np.float32]) -> None:
        """Put tiles at the beginning; all that follows becomes NaN, which no answer is."""
        self.content[: tiles.nbytes] = tiles.reshape(-1).view(np.uint8)
        self.content[tiles.nbytes :] = 0xFF

    def read(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A copy of what was answered from a byte on."""
        size = math.prod(shape) * np.dtype(np.float32).itemsize
        return self.content[start : start + size].view(np.float32).reshape(shape).copy()


class SharedMemory:
    """The regions that one Triton has mapped; made when they are needed, and kept.

    A name is gone as soon as Triton has mapped it, so that nothing is left in ``/dev/shm`` of a
    gateway that is killed; what Triton has mapped then, it keeps until it ends. A server that
    refuses a region, because it runs elsewhere, is sent tiles through its socket for good.

    Parameters
    ----------
    client, address
        Of the server.
    """

    def __init__(self, client: InferenceServerClient, address: str) -> None:
        self._client = client
        self._address = address
        self._free: dict[int, list[Region]] = defaultdict(list)
        self._refused = False

    @asynccontextmanager
    async def region(self, size: int) -> AsyncIterator[Region | None]:
        """So many bytes for a request; None if the server does not take them.

        Raises
        ------
        InferenceServerException
            If the server is not available.
        """
        free = self._free[size]
        region = free.pop() if free else await self._make(size)
        if region is None:
            yield None
            return
        settled = False
        try:
            yield region
            settled = True
        except InferenceServerException as error:
            if is_unknown(error):
                # The server is another one than before, and has mapped nothing yet.
                self._free.clear()
                region = None
            settled = error.status() not in _UNSETTLED or is_full(error)
            raise
        finally:
            if region is not None:
                self._give_back(region, settled)

    async def aclose(self) -> None:
        """Let the server forget the regions."""
        regions = list(itertools.chain.from_iterable(self._free.values()))
        self._free.clear()
        # A server that does not answer would not the next time either.
        with suppress(InferenceServerException):
            for region in regions:
                await self._client.unregister_system_shared_memory(
                    region.name, client_timeout=_PATIENCE
                )

    def _give_back(self, region: Region, settled: bool) -> None:
        free = self._free[len(region.content)]
        if settled:
            free.append(region)
        else:
            asyncio.get_running_loop().call_later(_REST, free.append, region)

    async def _make(self, size: int) -> Region | None:
        if self._refused:
            return None
        name = f"astrotriton-{uuid4()}"
        path = _FOLDER / name
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                # A file with holes would kill this process where the file system is full.
                os.posix_fallocate(descriptor, 0, size)
                content = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
                await self._client.register_system_shared_memory(
                    name, f"/{name}", size, client_timeout=_PATIENCE
                )
            finally:
                os.close(descriptor)
                path.unlink()
        except (OSError, InferenceServerException) as error:
            if isinstance(error, InferenceServerException) and error.status() in _UNSETTLED:
                raise
            _log.warning("no memory is shared with Triton at %s: %s", self._address, error)
            self._refused = True
            return None
        return Region(name, content)


def is_unknown(error: InferenceServerException) -> bool:
    """Whether a server knows nothing of a region, because it was started anew."""
    return _UNKNOWN in str(error.message())
