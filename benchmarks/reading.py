"""What it costs that exposures are read in processes of their own, beside reading them here.

``python -m benchmarks.reading [ROUNDS]`` reads one exposure of 512x512 pixels, as files of several
kinds, by turns in this process and by a reader, and prints what each takes on the clock and of all
processors. Lower quartiles: a machine that does other work, too, disturbs them least.
"""

import asyncio
import gzip
import io
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrotriton.detection.image.exposure import Limits, mute_astropy
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.image.reading import read_image
from astrotriton.gateway.compute import keep_memory
from astrotriton.gateway.readers.pool import Readers

SIDE = 512
ROUNDS = 200
LIMITS = Limits()


def files() -> dict[str, bytes]:
    """The same exposure in each kind of file."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["CRPIX1"], header["CRPIX2"] = SIDE / 2, SIDE / 2
    header["CRVAL1"], header["CRVAL2"] = 318.1, -66.0
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -7e-5, 0.0, 0.0, 7e-5
    header["DATE-OBS"], header["EXPTIME"] = "2026-01-01T00:00:00", 30.0
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    array = io.BytesIO()
    np.save(array, image)

    def written(*hdus: object) -> bytes:
        stream = io.BytesIO()
        fits.HDUList(list(hdus)).writeto(stream)
        return stream.getvalue()

    plain = written(fits.PrimaryHDU(image, header))
    rice, hcompress = (
        written(fits.PrimaryHDU(), fits.CompImageHDU(image, header, compression_type=kind))
        for kind in ("RICE_1", "HCOMPRESS_1")
    )
    return {
        "FITS": plain,
        "FITS, gzip": gzip.compress(plain),
        "FITS, RICE_1": rice,
        "FITS, HCOMPRESS_1": hcompress,
        "npy": array.getvalue(),
    }


async def here(content: bytes) -> None:
    """Read it in a thread of this process, as the gateway did."""
    await asyncio.to_thread(lambda: read_image(content, limits=LIMITS)[0].observation)


async def main(rounds: int) -> None:
    """Print the table."""
    mute_astropy()
    keep_memory()
    async with Readers(most=1, uses=500) as readers:
        async with readers.session() as session:
            await session.read_table(b"x,y\n1,2\n", 10, 100)

        async def there(content: bytes) -> None:
            async with readers.session() as session:
                await session.read_image(
                    content, hdu=None, planes=Planes(), observation=None, limits=LIMITS
                )

        ways: tuple[Callable[[bytes], Awaitable[None]], ...] = (here, there)
        print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f}; milliseconds, lower quartile")
        print(
            "| file | clock: in the process | by a reader | more | processor | by a reader | more |"
        )
        for name, content in files().items():
            spent: list[list[tuple[float, float]]] = [[], []]
            for turn in range(rounds):
                for way in (0, 1) if turn % 2 else (1, 0):
                    started, before = time.perf_counter(), _used(readers.processes)
                    await ways[way](content)
                    now = _used(readers.processes)
                    spent[way].append((time.perf_counter() - started, now - before))
            clock, used = 1000 * np.percentile(spent, 25, axis=1).T
            cells = [f"{a:.2f} | {b:.2f} | {b - a:+.2f}" for a, b in (clock, used)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _used(processes: list[int]) -> float:
    """Seconds of processor time of this process and of those."""
    readers = (Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in processes)
    return time.process_time() + 1e-9 * sum(map(int, readers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
