"""Files read in processes of their own: as here, whatever the file does to the process."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.image.reading import read_image
from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.readers.pool import Readers, ReaderSession
from astrotriton.gateway.readers.process import ForkServer, Reader, ReaderGoneError
from astrotriton.gateway.readers.reader import samples
from tests.integration.mutants import unsafe

LIMITS = Limits(max_bytes=200_000_000, max_pixels=40_000_000)
GOOD = samples()[0]


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
async def readers(server: ForkServer) -> AsyncIterator[Readers]:
    async with Readers(most=2, server=server) as readers:
        yield readers


async def read(session: ReaderSession, content: bytes, planes: Planes | None = None):
    return await session.read_image(
        content, hdu=None, planes=planes or Planes(), observation=None, limits=LIMITS
    )


async def reads(readers: Readers, content: bytes) -> np.ndarray:
    async with readers.session() as session:
        return (await read(session, content))[0].image()[0]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_fits(array: np.ndarray, **cards: object) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(array, fits.Header(cards)).writeto(file)
    return file.getvalue()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(what) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.02)


WHOLE = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
KINDS = {
    **{f"sample{i}": content for i, content in enumerate(samples())},
    "gz": gzip.compress(GOOD),
    "unsigned": as_fits(WHOLE),
    "blank": as_fits(WHOLE.astype(np.int16), BLANK=500),
    "cube": as_fits(WHOLE[None].astype(np.float64)),
    "npy": npy(np.asfortranarray(WHOLE.astype(">f8"))),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_all_is_as_read_in_this_process(readers: Readers, kind: str) -> None:
    content = KINDS[kind]
    here, _ = read_image(content, limits=LIMITS)
    x, y = np.array([0.0, 7.5]), np.array([3.0, 11.0])
    async with readers.session() as session:
        there, _ = await read(session, content)
        np.testing.assert_array_equal(there.image()[0], here.image()[0])
        assert there.raw(slice(2, 5), slice(1, 4)).dtype == here.raw(slice(2), slice(2)).dtype
        sky = await asyncio.to_thread(there.sky, x, y)
        np.testing.assert_array_equal(sky, here.sky(x, y))
        back = await asyncio.to_thread(there.pixels_of, *here.sky(x, y))
        np.testing.assert_array_equal(back, here.pixels_of(*here.sky(x, y)))
    for name in ("shape", "name", "flags", "saturation", "seeing", "observation", "pixel_scale"):
        assert getattr(there, name) == getattr(here, name), name


async def test_planes_tables_and_labelled_fields(readers: Readers) -> None:
    image = np.ones((20, 30), np.float32)
    async with readers.session() as session:
        _, opened = await read(
            session, npy(image), Planes(mask=gzip.compress(npy(WHOLE)), weight=as_fits(image))
        )
        assert opened.mask is not None
        assert opened.weight is not None
        assert opened.psf is None
        np.testing.assert_array_equal(opened.mask.image()[0], WHOLE)
        assert opened.weight.weight_type == "inverse_variance"
        with pytest.raises(InputError) as refused:
            await read(session, npy(image), Planes(psf=b"nothing"))
        assert (refused.value.code, refused.value.field) == ("not-fits", "psf")
    truth = Transients(
        positions=np.array([[3.0, 4.0]]),
        snr=np.array([9.0]),
        polarity=np.array([-1], np.int8),
        fwhm=np.array([np.nan]),
        hosted=np.array([True]),
        saturated=np.array([False]),
    )
    async with readers.session() as session:
        (candidate,) = await session.read_table(b"id,x,y\na,1,nan\n", 10, 1000)
        assert (candidate.id, candidate.x, candidate.y) == ("a", 1.0, None)
        science = image + np.float32(2.0)
        labelled = [LabelledField(image, truth, {"science": science}), LabelledField(image, truth)]
        whole = ValidationSet(labelled, "two fields")
        found = await session.read_labelled(whole.to_fits())
        assert found.description == "two fields"
        np.testing.assert_array_equal(found.fields[0].companions["science"], science)
        assert found.fields[1].companions == {}
        np.testing.assert_array_equal(found.fields[0].image, image)
        np.testing.assert_array_equal(found.fields[0].transients.fwhm, [np.nan])
        with pytest.raises(InputError) as refused:
            await session.read_labelled(GOOD)
        assert refused.value.code == "bad-dataset"


async def test_a_file_that_ends_its_reader_is_named_and_nobody_else_notices(
    readers: Readers,
) -> None:
    async def honest() -> None:
        for _ in range(5):
            np.testing.assert_array_equal(
                await reads(readers, GOOD), read_image(GOOD)[0].image()[0]
            )

    async def hostile() -> None:
        for _ in range(3):
            with pytest.raises(InputError) as refused:
                await reads(readers, unsafe())
            assert (refused.value.code, refused.value.field) == ("unsafe-file", "exposure")
            assert hashlib.sha256(unsafe()).hexdigest() in refused.value.detail
            assert "send the pixels alone as .npy" in refused.value.detail

    await asyncio.gather(honest(), hostile(), honest())
    async with readers.session() as session:
        with pytest.raises(InputError) as refused:
            await read(session, GOOD, Planes(mask=GOOD, weight=unsafe()))
        assert refused.value.field == "weight"


async def test_a_reader_that_met_a_broken_file_is_not_used_again(readers: Readers) -> None:
    pids = []
    for content in (GOOD, GOOD, b"SIMPLE  = broken".ljust(2880), GOOD):
        async with readers.session() as session:
            with contextlib.suppress(InputError):
                await read(session, content)
            assert session._reader is not None
            pids.append(session._reader.pid)
    assert pids[0] == pids[1] == pids[2] != pids[3]
    await until(lambda: not alive(pids[0]))


@pytest.mark.parametrize("whom", ["reader", "fork server"])
async def test_one_that_somebody_else_ends_is_replaced(readers: Readers, whom: str) -> None:
    async with readers.session() as session:
        exposure, _ = await read(session, GOOD)
        assert session._reader is not None
        assert readers._server.pid is not None
        # The spare one, too, ends with the fork server.
        await until(lambda: readers._idle)
        if whom == "reader":
            os.kill(session._reader.pid, signal.SIGKILL)
        else:
            ended = [session._reader.pid, *(reader.pid for reader in readers._idle)]
            os.kill(readers._server.pid, signal.SIGKILL)
            await until(lambda: not any(map(alive, ended)))
        sky = await asyncio.to_thread(exposure.sky, np.array([1.0]), np.array([2.0]))
        np.testing.assert_array_equal(
            sky, read_image(GOOD)[0].sky(np.array([1.0]), np.array([2.0]))
        )


async def test_a_fork_server_that_ends_again_and_again_blames_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ForkServer()

    def end(reader: Reader, request: object) -> None:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        raise ReaderGoneError("exposure")

    async with Readers(most=1, server=server) as readers:
        try:
            with monkeypatch.context() as patched:
                patched.setattr(Reader, "ask", end)
                with pytest.raises(DependencyError) as refused:
                    await reads(readers, GOOD)
                assert refused.value.dependency == "readers"
            assert (await reads(readers, GOOD)).shape == (32, 32)
        finally:
            server.close()


async def test_memory_is_bounded(server: ForkServer) -> None:
    bomb = gzip.compress(bytes(150_000_000), 1)
    async with Readers(most=1, memory=80_000_000, server=server) as readers:
        with pytest.raises((TooLargeError, InputError)) as refused:
            await reads(readers, bomb)
        assert refused.value.code in ("too-large", "unreadable-fits")
        assert (await reads(readers, GOOD)).shape == (32, 32)


async def test_who_gives_up_leaves_no_reader_at_work(readers: Readers) -> None:
    large = gzip.compress(bytes(150_000_000), 1)
    reading = asyncio.create_task(reads(readers, large))
    await until(lambda: readers._lent)
    (reader,) = readers._lent
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: not readers._lent)
    assert (await reads(readers, GOOD)).shape == (32, 32)
    await until(lambda: not alive(reader.pid) or reader in readers._idle)


async def test_a_reader_has_no_secrets_and_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-test")
    monkeypatch.setenv("ASTROTRITON_DATABASE_URL", "postgresql://of-the-test")
    async with Readers(most=1, uses=3) as readers, readers.session() as session:
        await read(session, GOOD)
        assert session._reader is not None
        for pid in (session._reader.pid, readers._server.pid):
            assert b"of-the-test" not in Path(f"/proc/{pid}/environ").read_bytes()
        if os.geteuid() == 0:
            # The memory of its files, and what it may put pixels into.
            folder = Path(f"/proc/{session._reader.pid}/fd")
            kinds = sorted(str(one.readlink()).partition(":")[0] for one in folder.iterdir())
            assert kinds == [*["/dev/null"] * 3, *["/memfd"] * 4, "socket"]
        pids = [session._reader.pid, readers._server.pid]
    assert not any(alive(pid) for pid in pids if pid is not None)


def test_readers_end_with_a_gateway_that_is_killed() -> None:
    code = """
        import asyncio
        from astrotriton.gateway.readers.pool import Readers

        async def main():
            async with Readers(most=1) as readers, readers.session() as session:
                await session.read_table(b"x,y\\n1,2\\n", 10, 100)
                print(session._reader.pid, readers._server.pid, flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    owner.kill()
    owner.wait()
    asyncio.run(until(lambda: not any(map(alive, pids))))


def test_packages_may_lie_where_only_the_gateway_was_told() -> None:
    code = f"""
        import sys
        sys.path[:] = {sys.path!r}

        from astrotriton.gateway.readers.messages import Fork
        from astrotriton.gateway.readers.process import ForkServer

        server = ForkServer()
        reader = server.fork(Fork(room=2**20, memory=2**30, files=1))
        reader.wait()
        print(reader.confined_by)
        server.close()
    """
    bare = sys._base_executable  # type: ignore[attr-defined]
    done = subprocess.run(
        [bare, "-I", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in ("seccomp", "limits"), done.stderr


@pytest.mark.parametrize("filtered", [True, False])
def test_a_confined_process_has_its_memory_and_nothing_else(filtered: bool) -> None:
    code = f"""
        import os, signal, socket, threading
        from astrotriton.gateway.readers.sandbox import allow_seconds, confine, leave_privileges

        def outcome(attempt):
            try:
                attempt()
            except (OSError, RuntimeError, MemoryError) as error:
                return type(error).__name__
            return "done"

        attempts = {{
            "open": lambda: open("/etc/passwd"),
            "write": lambda: open("/tmp/of-a-reader", "w"),
            "socket": lambda: socket.socket(),
            "fork": lambda: os._exit(9) if os.fork() == 0 else None,
            "execute": lambda: os.execv("/bin/true", ["true"]),
            "memory": lambda: bytes(200_000_000),
            "signal": lambda: os.kill({os.getpid()}, 0),
        }}
        leave_privileges()
        print(confine(100_000_000, filtered={filtered}))
        for name, attempt in attempts.items():
            if name == "execute" and not {filtered}:
                continue
            print(name, outcome(attempt), flush=True)
        allow_seconds(0.1)
        while True:
            pass
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    how, *lines = done.stdout.splitlines()
    assert how == ("seccomp" if filtered else "limits"), done.stderr
    outcomes = dict(line.split() for line in lines)
    refused = {"open", "write", "socket", "fork", "execute", "memory", "signal"}
    if not filtered:
        refused -= {"execute", "signal"}
    assert {name for name, came in outcomes.items() if came != "done"} >= refused
    assert done.returncode == -signal.SIGXCPU
