"""Servers of the stack, each on a disk whose power is cut together with the server's."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from astrotriton.folders import IMPORTS
from astrotriton.stack.process import Part, PartProcess
from astrotriton.stack.site import Addresses, Site
from benchmarks.power.disks import Disk

_PATIENCE = 900.0


class Server:
    """A part of the stack, run as the stack runs it, whose data lie on a disk of its own.

    Parameters
    ----------
    describe
        The part; may be changed before a cut, after which it is started as the new one says.
    data
        A folder for what does not lie on the disk: credentials and logs.
    """

    def __init__(self, describe: Callable[[Site], Part], data: Path, disk: Disk) -> None:
        self.describe = describe
        self._site = Site(data)
        self._disk = disk

    @property
    def addresses(self) -> Addresses:
        """Where it answers; those of other parts lead nowhere."""
        return self._site.addresses

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        part = await asyncio.to_thread(self.describe, self._site)
        part = replace(part, patience=_PATIENCE)
        self._process = await PartProcess.launch(part, self._site)
        await self._process.until_ready()

    async def cut(self) -> None:
        """Cut its power, give it back, and wait until the server answers again."""
        part = self._part()
        part.suspend()  # first, so that it starts nothing more
        processes = [part, *part.children(recursive=True)]
        for process in processes:
            process.suspend()
        for process in processes:
            while process.status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.001)
        self._disk.cut()
        for process in processes:
            process.kill()
        await self._process.watch()
        await asyncio.to_thread(self._disk.restore)
        await self.start()

    async def restart(self) -> None:
        """End it in peace and start it again."""
        await self._process.stop()
        await self.start()

    async def stop(self) -> None:
        """End it."""
        await self._process.stop()
        self._site.release()

    def _part(self) -> psutil.Process:
        """The process of the part: the child of its guard, which runs in the part's folder."""
        for guard in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if Path(guard.cwd()) == self._disk.folder.resolve() and guard.children():
                    return guard.children()[0]
        raise RuntimeError(f"nothing runs in {self._disk.folder}")


@asynccontextmanager
async def on_a_disk(
    describe: Callable[[Site], Part], name: str, folder: Path, megabytes: int
) -> AsyncIterator[Server]:
    """A part of the stack on a disk of its own, until the block ends.

    Parameters
    ----------
    name
        The part's, which names its folder too.
    folder
        Where all of it is kept.
    """
    data = folder / name
    data.mkdir()
    with Disk(folder / f"{name}.img", data / name, megabytes) as disk:
        server = Server(describe, data, disk)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def gateway(
    triton: str, repository: Path, database_url: str, nats_url: str, port: int, log: Path
) -> AsyncIterator[str]:
    """The address of a gateway that these servers serve, until the block ends."""
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "ASTROTRITON_AUTH": "off",
        "ASTROTRITON_PORT": str(port),
        "ASTROTRITON_TRITON_GRPC": triton,
        "ASTROTRITON_MODEL_REPOSITORY": str(repository),
        "ASTROTRITON_DATABASE_URL": database_url,
        "ASTROTRITON_NATS_URL": nats_url,
        # Events that are put into the outbox from outside wake nobody.
        "ASTROTRITON_OUTBOX_POLL": "0.1",
        "ASTROTRITON_RATE_PER_MINUTE": "1000000",
        "PYTHONPATH": str(IMPORTS),
    }
    command = [sys.executable, "-m", "astrotriton.gateway"]
    with log.open("ab") as output:
        await asyncio.to_thread(
            subprocess.run, [*command, "migrate"], env=environment, stdout=output, check=True
        )
        process = subprocess.Popen(
            [*command, "serve"], env=environment, stdout=output, stderr=output
        )
    try:
        await until_ready(url)
        yield url
    finally:
        process.kill()
        process.wait()


async def until_ready(gateway_url: str) -> None:
    """Wait until a gateway says that it is ready.

    Raises
    ------
    RuntimeError
        If it takes too long.
    """
    reason: object = None
    deadline = time.monotonic() + _PATIENCE
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        while time.monotonic() < deadline:
            try:
                answer = await client.get(f"{gateway_url}/health/ready")
            except httpx.HTTPError as error:
                reason = repr(error)
            else:
                if answer.is_success:
                    return
                reason = answer.text
            await asyncio.sleep(0.1)
    raise RuntimeError(f"not ready within {_PATIENCE:g} s: {reason}")
