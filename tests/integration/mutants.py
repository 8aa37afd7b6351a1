"""Broken exposures: good files of every kind that is read, damaged as files are in the wild.

``python -m tests.integration.mutants FIRST LAST`` scores those of a range of seeds in this process,
within bounds on time and memory, and prints what should not have happened, one JSON object a line.

Each run of the tests tries other seeds, and prints them; ``ASTROTRITON_TEST_SEED`` repeats a run.
"""

import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

import numpy as np
from astropy.io import fits
from scipy.special import expit

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.detection.warmup import warm_up

BLOCK = 2880
CARD = 80
LIMITS = Limits(max_bytes=4_000_000, max_pixels=250_000, max_candidates=2_000)
MEMORY = 1 << 30  # beyond what the process has before it reads a file
SECONDS = 10.0  # of processor time

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
    return files


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
    *(_drop_block, _repeat_block, _splice),
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


def score(content: bytes) -> str:
    """Score an exposure, the network being the brightness itself: the code of the outcome."""
    try:
        tiled = prepare(content, card(), limits=LIMITS)
        for start in range(0, len(tiled), 4):
            tiles = tiled.batch(start, min(start + 4, len(tiled)))
            tiled.accept(start, expit(tiles - 4.0).astype(np.float32))
        finish(tiled, threshold=0.5)
    except InputError as error:
        return error.code
    return "scored"


class _TooLongError(BaseException):
    """No `Exception`: what reads a broken file takes any of those for the file's fault."""


def _alarm(*_: object) -> None:
    raise _TooLongError(f"over {SECONDS:g} s")


def main(first: int, last: int) -> None:
    """Score every mutant of a range."""
    warnings.simplefilter("ignore")
    warm_up()
    score(seeds()[0])
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGPROF, _alarm)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for seed in range(first, last):
        content = mutant(seed)
        started = time.process_time()
        # Where this process dies or hangs for good, the last line names the file.
        print(json.dumps({"trying": seed}), flush=True)
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            outcomes[score(content)] += 1
        except (Exception, _TooLongError) as error:
            text = traceback.format_exc()
            print(json.dumps({"seed": seed, "error": repr(error), "traceback": text}), flush=True)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - started)
    print(json.dumps({"outcomes": outcomes, "slowest": slowest}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(int(sys.argv[1]), int(sys.argv[2]))
