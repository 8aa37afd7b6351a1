"""Broken exposures: good files of every kind that is read, damaged as files are in the wild.

``python -m tests.integration.mutants FIRST LAST`` scores those of a range of seeds, read by readers
as the gateway has them, and prints what should not have happened, one JSON object a line. With
``--refused-cards``, they are good but for cards that wcslib refuses. ``--times`` has each read so
many times by the same reader.

Each run of the tests tries other seeds, and prints them; ``ASTROTRITON_TEST_SEED`` repeats a run.
"""

import argparse
import asyncio
import contextlib
import gzip
import io
import json
import os
import random
import struct
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import astropy
import numpy as np
from astropy.io import fits
from scipy.special import expit

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure, Limits
from astrotriton.detection.image.planes import OpenPlanes, Planes
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.detection.warmup import warm_up
from astrotriton.gateway.readers.pool import Readers

BLOCK = 2880
CARD = 80
LIMITS = Limits(max_bytes=4_000_000, max_pixels=250_000, max_candidates=2_000)
MEMORY = 1 << 30  # of a reader, beyond what it has before it reads a file
SECONDS = 2.0  # of processor time

_NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 8, 16, 17, 31, 32, 63, 64, 65, 255, 999, 4096, 65535, 65536, 10**6),
    *(2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, -(2**31), -(2**63), -32, -64, -128),
)
_VALUES = (
    *("T", "F", "1E308", "-1E308", "1E-308", "1E999", "NaN", "0.5", "1.5D0", "", "''", "'  '"),
    *("'IMAGE   '", "'BINTABLE'", "'TABLE   '", "'RICE_1'", "'GZIP_1'", "'GZIP_2'", "'PLIO_1'"),
    *("'HCOMPRESS_1'", "'NONE'", "'RA---TAN'", "'DEC--TAN'", "'RA---TPV'", "'GLON-CAR'", "'FREQ'"),
    *("'1J'", "'1PB(0)'", "'QB(9)'", "'999999999E'", "'x", "'a''b'", "(1,2)", "'\xe9'"),
)
_KEYWORDS = """
SIMPLE XTENSION BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 EXTEND PCOUNT GCOUNT TFIELDS TFORM1 TTYPE1 BZERO
BSCALE BLANK SATURATE EXTNAME ZIMAGE ZCMPTYPE ZBITPIX ZNAXIS ZNAXIS1 ZNAXIS2 ZTILE1 ZTILE2 ZBLANK
ZNAME1 ZVAL1 ZVAL2 ZSCALE ZZERO ZQUANTIZ ZDITHER0 THEAP GROUPS CTYPE1 CTYPE2 CRPIX1 CRVAL1 CRVAL2
CD1_1 CD1_2 CDELT1 PV1_1 A_ORDER A_2_0 B_ORDER AP_ORDER CPDIS1 D2IMDIS1 WCSAXES RADESYS EQUINOX
LONPOLE CUNIT1 END CONTINUE HIERARCH COMMENT TDIM1 TNULL1 TSCAL1 INHERIT CHECKSUM DATASUM
"""


# Of telescopes, compressed by CFITSIO, and with distortions that few headers have.
_ASTROPY = Path(astropy.__file__).parent
_REAL = (
    *(f"io/fits/hdu/compressed/tests/data/m13_{kind}.fits" for kind in ("hcomp", "rice", "gzip")),
    *(f"wcs/tests/data/{name}.fits" for name in ("dist", "sip", "j94f05bgq_flt")),
)


def _wcs() -> fits.Header:
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["CRPIX1"], header["CRPIX2"] = 24.5, 24.5
    header["CRVAL1"], header["CRVAL2"] = 318.1, -66.0
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -7e-5, 0.0, 0.0, 7e-5
    header["A_ORDER"], header["A_2_0"], header["B_ORDER"], header["B_0_2"] = 2, 1e-6, 2, 1e-6
    header["SATURATE"] = 60000.0
    return header


@cache
def seeds() -> list[bytes]:
    """The good files."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(48, 56)).astype(np.float32)
    image[20:23, 30:33] += 30.0
    image[5:7, :] = np.nan
    whole = np.round(1000 + 50 * np.nan_to_num(image)).astype(np.int16)
    files: list[bytes] = []

    def add(*hdus: fits.hdu.base._BaseHDU) -> None:
        file = io.BytesIO()
        fits.HDUList(list(hdus)).writeto(file, output_verify="silentfix")
        files.append(file.getvalue())

    add(fits.PrimaryHDU(image, _wcs()))
    unsigned = fits.PrimaryHDU(whole.astype(np.uint16))
    add(unsigned)
    blank = fits.PrimaryHDU(whole)
    blank.header["BLANK"] = 1000
    add(blank)
    add(fits.PrimaryHDU(), fits.ImageHDU(image.astype(np.float64), _wcs(), name="SCI"))
    table = fits.BinTableHDU.from_columns([fits.Column("X", "E", array=np.arange(9.0))])
    add(fits.PrimaryHDU(), table, fits.ImageHDU(whole.astype(np.int32), name="SCI"))
    for kind in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1"):
        data = whole if kind == "PLIO_1" else image.astype(np.float32)
        data = np.nan_to_num(data) if kind == "HCOMPRESS_1" else data
        add(fits.PrimaryHDU(), fits.CompImageHDU(data, _wcs(), compression_type=kind))
    files.append(gzip.compress(files[0], mtime=0))
    for array in (image, np.asfortranarray(image), image.astype(">f8"), whole, image > 0.0):
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0))
        files.append(file.getvalue())
    file = io.BytesIO()
    np.lib.format.write_array(file, image, version=(2, 0))
    files.append(file.getvalue())
    return [*files, *((_ASTROPY / name).read_bytes() for name in _REAL)]


@cache
def first_seed() -> int:
    """The first seed of this run of the tests: another one each time, unless it is given."""
    given = os.environ.get("ASTROTRITON_TEST_SEED")
    return int(given) if given else random.SystemRandom().randrange(10**9)


def mutant(seed: int) -> bytes:
    """The broken file of a seed."""
    choose = random.Random(seed)
    content = choose.choice(seeds())
    packed = content.startswith(b"\x1f\x8b")
    if packed and choose.random() < 0.7:
        content = gzip.decompress(content)
    else:
        packed = False
    for _ in range(choose.choice((1, 1, 1, 2, 3, 6))):
        npy = content.startswith(b"\x93NUMPY")
        kinds = _ON_ANY + (_ON_NPY * 3 if npy else _ON_FITS * 3)
        content = choose.choice(kinds)(content, choose)
    return gzip.compress(content, mtime=0) if packed else content


def _value(choose: random.Random) -> str:
    if choose.random() < 0.6:
        return str(choose.choice(_NUMBERS))
    return choose.choice(_VALUES)


def _cards(content: bytes) -> list[int]:
    """Where cards seem to begin."""
    found = []
    for start in range(0, len(content) - CARD, CARD):
        card = content[start : start + CARD]
        if card[8:10] == b"= " and card.isascii():
            found.append(start)
    return found or [0]


def _put(content: bytes, start: int, piece: bytes) -> bytes:
    return content[:start] + piece + content[start + len(piece) :]


def _card(keyword: str, value: str) -> bytes:
    text = f"{keyword:<8.8}= {value:>20}"
    return f"{text:<80.80}".encode("latin-1")


def _change_value(content: bytes, choose: random.Random) -> bytes:
    start = choose.choice(_cards(content))
    keyword = content[start : start + 8].decode("latin-1")
    return _put(content, start, _card(keyword, _value(choose)))


def _change_known(content: bytes, choose: random.Random) -> bytes:
    keyword = choose.choice(_KEYWORDS.split())
    starts = [s for s in _cards(content) if content[s : s + 8].strip() == keyword.encode()]
    start = choose.choice(starts or _cards(content))
    return _put(content, start, _card(keyword, _value(choose)))


def _delete_card(content: bytes, choose: random.Random) -> bytes:
    return _put(content, choose.choice(_cards(content)), b" " * CARD)


def _swap_cards(content: bytes, choose: random.Random) -> bytes:
    starts = _cards(content)
    one, other = choose.choice(starts), choose.choice(starts)
    first, second = content[one : one + CARD], content[other : other + CARD]
    return _put(_put(content, one, second), other, first)


def _garble_card(content: bytes, choose: random.Random) -> bytes:
    start = choose.choice(_cards(content))
    return _put(content, start + choose.randrange(CARD - 8), choose.randbytes(8))


# What wcslib refuses of a card, and names in a message that it writes: values that are not of the
# keyword's kind, axes and alternates that there cannot be, records of tables, and what it knows
# under a name that no standard has. It refuses each as often as the header has it.
_KEYS = (
    *("CRPIX{i}{a}", "CRVAL{i}{a}", "CDELT{i}{a}", "CROTA{i}", "CTYPE{i}{a}", "CUNIT{i}{a}"),
    *("PC{i}_{i}{a}", "CD{i}_{i}{a}", "PC00{i}00{i}", "CD00{i}00{i}", "PV{i}_{i}{a}", "PROJP{i}"),
    *("PS{i}_{i}{a}", "CNAME{i}{a}", "CRDER{i}{a}", "CSYER{i}{a}", "CPERI{i}{a}", "CZPHS{i}{a}"),
    *("LONPOLE{a}", "LATPOLE{a}", "LONGPOLE", "EQUINOX{a}", "EPOCH{a}", "RADESYS{a}", "RADECSYS"),
    *("RESTFRQ{a}", "RESTFREQ", "RESTWAV{a}", "SPECSYS{a}", "SSYSOBS{a}", "VELOSYS{a}", "VELREF"),
    *("VSOURCE{a}", "ZSOURCE{a}", "VELANGL{a}", "OBSGEO-X", "MJD-OBS", "DATE-OBS", "JDREF"),
    *("TIMESYS", "TREFPOS", "MJDREFI", "WCSAXES{a}", "WCSNAME{a}", "{i}CRVL9{a}", "{i}CTYP9{a}"),
    *("TCRVL{i}{a}", "TCTYP{i}{a}", "TCRPX{i}{a}", "DP{i}", "DQ{i}{a}", "CPDIS{i}{a}", "CQERR{i}"),
)
_BAD = (
    *("'not a number " + "x" * 60, "'not a number'", "'unterminated", "1.0.0", "1E", "(1.0, 2.0)"),
    *("T", "1E400", "-1D-400", "0x1F", "NaN", "INF", "99999999999999999999", "'NAXES: 1'", "''"),
    *("'AXIS.1: 1.0'", "1.0 'and more'", "= 1", "\xff\xfe", "'a''b' 'c'", "/ no value", "1,5"),
)


def refused_cards(choose: random.Random) -> bytes:
    """Cards that wcslib refuses, at least one and up to some hundred."""
    kinds = choose.sample(_KEYS, choose.choice((1, 1, 3, len(_KEYS))))
    values = choose.sample(_BAD, choose.choice((1, 1, 4, len(_BAD))))
    cards = []
    for _ in range(choose.choice((1, 3, 30, 100, 300, 500))):
        key = choose.choice(kinds).format(
            i=choose.choice((0, 1, 2, 3, 9, 99)), a=choose.choice(("", "A", "Z", "z", "1"))
        )
        equals = choose.choice(("= ", "= ", "= ", " =", "=", "  "))
        cards.append(f"{key[:8]:<8}{equals}{choose.choice(values)}"[:CARD].ljust(CARD))
    return "".join(cards).encode("latin-1")


def with_refused_cards(seed: int) -> bytes:
    """A good FITS file, but for cards that wcslib refuses."""
    choose = random.Random(seed)
    good = [content for content in seeds() if content.startswith(b"SIMPLE")]
    return _refused_cards(choose.choice(good), choose)


def unsafe() -> bytes:
    """A good exposure whose header ends the process that has wcslib read it."""
    cards = "".join(
        f"CRVAL{1 + i % 9}{chr(65 + i % 26)}  = 'not a number {'x' * 60}"[:CARD].ljust(CARD)
        for i in range(300)
    )
    return _with_cards(seeds()[0], seeds()[0].index(b"END" + b" " * 77), cards.encode())


def _with_cards(content: bytes, end: int, cards: bytes) -> bytes:
    """More cards before the END of a header."""
    start = end // BLOCK * BLOCK + BLOCK
    header = content[:end] + cards + b"END".ljust(CARD)
    return header + b" " * (-len(header) % BLOCK) + content[start:]


def _refused_cards(content: bytes, choose: random.Random) -> bytes:
    """A good header with cards more that wcslib refuses."""
    ends = [i for i in range(0, len(content), CARD) if content[i : i + CARD].strip() == b"END"]
    if not ends:
        return content
    return _with_cards(content, choose.choice(ends), refused_cards(choose))


def _drop_block(content: bytes, choose: random.Random) -> bytes:
    start = BLOCK * choose.randrange(max(1, len(content) // BLOCK))
    return content[:start] + content[start + BLOCK :]


def _repeat_block(content: bytes, choose: random.Random) -> bytes:
    start = BLOCK * choose.randrange(max(1, len(content) // BLOCK))
    return content[:start] + content[start : start + BLOCK] * 2 + content[start + BLOCK :]


def _splice(content: bytes, choose: random.Random) -> bytes:
    other = choose.choice(seeds())
    return content[: BLOCK * choose.randrange(1, 4)] + other[BLOCK * choose.randrange(4) :]


def _npy_header(content: bytes, choose: random.Random) -> bytes:
    shape = choose.choice(
        (
            *("(48, 56)", "(-1, 5)", "(0, 0)", "(10**9, 10**9)", "(99999999999, 99999999999)"),
            *("()", "(48,)", "(1, 48, 56)", "(3, 4, 5)", "(48.0, 56)", "48", "None", "(True, 56)"),
            *("(1000, 1000)", "(2, 1344)", "(1, 2688)", "(2688, 1)"),
        )
    )
    kind = choose.choice(
        ("<f4", ">f8", "|O", "<f2", "<c8", "|S9", "<U3", "|V4", "<i8", "|b1", "<M8[s]", "<f16", "x")
    )
    order = choose.choice(("True", "False", "1", "None"))
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"
    if choose.random() < 0.1:
        text = choose.choice((text[:-3], "{}", "[" * 2000, text + "\0", "__import__('os')"))
    header = text.encode() + b"\n"
    version = choose.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    length = len(header) if choose.random() < 0.8 else choose.choice((0, 1, 65535, len(header) + 9))
    packed = struct.pack("<H" if version == b"\x01\x00" else "<I", length)
    return b"\x93NUMPY" + version + packed + header + content[128:]


def _truncate(content: bytes, choose: random.Random) -> bytes:
    return content[: choose.randrange(len(content) + 1)]


def _extend(content: bytes, choose: random.Random) -> bytes:
    return content + choose.randbytes(choose.choice((1, 79, BLOCK, 5 * BLOCK)))


def _flip(content: bytes, choose: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(choose.choice((1, 4, 64)) if content else 0):
        changed[choose.randrange(len(changed))] = choose.randrange(256)
    return bytes(changed)


def _fill(content: bytes, choose: random.Random) -> bytes:
    start = choose.randrange(len(content) + 1)
    length = choose.choice((16, 400, 4000))
    return _put(content, start, choose.choice((b"\0", b"\xff", b"\x7f", b" ")) * length)


_Mutation = Callable[[bytes, random.Random], bytes]
_ON_ANY: list[_Mutation] = [_truncate, _extend, _flip, _fill]
_ON_NPY: list[_Mutation] = [_npy_header, _flip]
_ON_FITS: list[_Mutation] = [
    *(_change_value, _change_known, _change_known, _delete_card, _swap_cards, _garble_card),
    *(_drop_block, _repeat_block, _splice, _refused_cards),
]


def card() -> UNetModel:
    """A model of small tiles."""
    return UNetModel(
        name="fuzz",
        version=1,
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, 1, 64, 64)),
        output=TensorSpec(name="probability", shape=(-1, 1, 64, 64)),
        overlap=16,
    )


async def score(content: bytes, readers: Readers, times: int = 1) -> str:
    """Score an exposure, the network being the brightness itself: the code of the outcome.

    It is read as the gateway does, and so many times by one reader.
    """
    try:
        async with readers.session() as session:
            for _ in range(times):
                exposure, opened = await session.read_image(
                    content, hdu=None, planes=Planes(), observation=None, limits=LIMITS
                )
                exposure.sky(*np.zeros((2, 5)))
                exposure.pixels_of(*np.zeros((2, 5)))
            await asyncio.to_thread(_score, exposure, opened)
    except InputError as error:
        return error.code
    return "scored"


def _score(exposure: Exposure, opened: OpenPlanes) -> None:
    tiled = prepare_exposure(exposure, card(), opened=opened, limits=LIMITS)
    for start in range(0, len(tiled), 4):
        tiles = tiled.batch(start, min(start + 4, len(tiled)))
        tiled.accept(start, expit(tiles - 4.0).astype(np.float32))
    finish(tiled, threshold=0.5)


def readers() -> Readers:
    """Those that read mutants."""
    return Readers(most=1, memory=MEMORY, seconds=SECONDS, room=4 * LIMITS.max_bytes)


async def main(first: int, last: int, make: Callable[[int], bytes], times: int) -> None:
    """Score every mutant of a range."""
    warnings.simplefilter("ignore")
    warm_up()
    outcomes: Counter[str] = Counter()
    seconds: list[tuple[float, int]] = []
    async with readers() as pool:
        await score(seeds()[0], pool)
        for seed in range(first, last):
            content = make(seed)
            # Where this process dies or hangs for good, the last line names the file.
            print(json.dumps({"trying": seed}), flush=True)
            started = time.perf_counter()
            try:
                outcomes[await score(content, pool, times)] += 1
            except Exception as error:
                text = traceback.format_exc()
                print(json.dumps({"seed": seed, "error": repr(error), "traceback": text}))
            seconds.append((round(time.perf_counter() - started, 3), seed))
        assert await score(seeds()[0], pool) == "scored"
    slowest = sorted(seconds, reverse=True)[:10]
    print(json.dumps({"outcomes": outcomes, "slowest": slowest}), flush=True)


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("first", type=int)
    given.add_argument("last", type=int)
    given.add_argument("--refused-cards", action="store_true")
    given.add_argument("--times", type=int, default=1)
    asked = given.parse_args()
    kind = with_refused_cards if asked.refused_cards else mutant
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(main(asked.first, asked.last, kind, asked.times))
