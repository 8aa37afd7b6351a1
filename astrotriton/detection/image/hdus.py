"""The HDUs of a FITS file, read by Astropy within bounds that it does not set itself."""

import gzip
import io
import itertools
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

from astropy.io import fits

from astrotriton.detection.arrays import Buffer
from astrotriton.detection.errors import InputError

_CARD = 80
_MOST_NAMED = 100  # HDUs in a message
_PIECE = 1 << 20  # bytes of a tile that are held at a time
_END = b"END".ljust(_CARD)
# Astropy and wcslib run through, or make room for, as many axes and columns as a header states.
# There are at most 999 (FITS Standard 4.0, 4.4.1.1 and 7.3.1). This is as lenient as Astropy is.
_COUNT_BEYOND = re.compile(
    rb"(?i)\s*(?:HIERARCH\s+)?(?:Z?NAXIS|TFIELDS|WCSAXES[A-Z]?)\s*=\s*\+?0*[1-9]\d{3}"
)

_HCOMPRESS, _HCOMPRESS_MAGIC = struct.Struct(">Hii"), 0xDD99

_BYTES_OF_A_PIXEL = (1, 2, 4, 8)  # that RICE_1 compresses (the same, table 37)


def find_image(
    content: Buffer, wanted: int | str | None, max_pixels: int
) -> tuple[Any, list[fits.Header]]:
    """An image of a FITS file, its pixels not yet read; and the headers that describe it.

    These are its own and, unless it is the first HDU, that one's, which often speaks for all.

    Parameters
    ----------
    content
        The whole file.
    wanted
        Index or EXTNAME (in either case) of the HDU, ``NAME,2`` for its EXTVER 2; the first image
        with data if None.
    max_pixels
        Compressed tiles are not larger than an image of so many; how many it has is not looked at.

    Raises
    ------
    InputError
        ``no-image``, ``no-such-hdu``.
    Exception
        Of almost any kind, if the file is broken.
    """
    names, first = [], fits.Header()
    for index, stored in enumerate(_read(content)):
        if index == 0:
            first = stored.header
        names.append(f"{index}: {name(stored)}")
        if wanted is not None and not _is_called(stored, index, wanted):
            continue
        hdu = _uncompressed(content, stored, max_pixels)
        if getattr(hdu, "is_image", False) and hdu.shape:
            if not all(isinstance(length, int) for length in hdu.shape):
                raise ValueError(f"axes of {hdu.shape} pixels")
            return hdu, [hdu.header] if index == 0 else [hdu.header, first]
        if wanted is not None:
            raise InputError("no-image", "hdu", f"HDU {wanted!r} is not an image with data")
    if wanted is None:
        raise InputError("no-image", "exposure", "no HDU of the file is an image with data")
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED:] = ["..."]
    detail = f"no HDU {wanted!r}; the file has {', '.join(names)}"
    raise InputError("no-such-hdu", "hdu", detail)


def tables(content: Buffer) -> Iterator[Any]:
    """The tables of a FITS file, their rows not yet read.

    Raises
    ------
    Exception
        Of almost any kind, if the file is broken.
    """
    for hdu in _read(content):
        if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            if hdu.header["NAXIS1"] * hdu.header["NAXIS2"] > len(content):
                raise ValueError(f"{name(hdu)} says that it has more rows than the file holds")
            yield hdu


def name(hdu: Any) -> str:
    """EXTNAME, with EXTVER where that is not 1; PRIMARY without a name."""
    if not hdu.name:
        return "PRIMARY"
    return str(hdu.name) if hdu.ver == 1 else f"{hdu.name},{hdu.ver}"


def is_plain(hdu: Any) -> bool:
    """Whether header and pixels lie in the file as they are."""
    return type(hdu) in (fits.PrimaryHDU, fits.ImageHDU)


def _read(content: Buffer) -> Iterator[Any]:
    """One HDU after the other, each header looked at before Astropy believes it."""
    start = 0
    _check_counts(content, start)
    # Stays open: what is chosen reads its pixels from it.
    hdus = _HDUs.fromfile(
        _stream(content),
        memmap=False,
        lazy_load_hdus=True,
        uint=True,
        disable_image_compression=True,
    )
    for index in itertools.count():
        try:
            hdu = hdus[index]
        except IndexError:
            return
        yield hdu
        place = hdu.fileinfo()
        after = place["datLoc"] + place["datSpan"]
        if after <= start:
            raise ValueError(f"HDU {index} says that it ends before it begins")
        start = after
        _check_counts(content, start)


class _HDUs(fits.HDUList):  # type: ignore[misc]
    """HDUs of a file that are read one by one."""

    def update_extend(self) -> None:
        """Nothing: Astropy would read the second HDU here, before its header is looked at."""


class _View(io.RawIOBase):
    """A file over a view: nothing is copied that is not read."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._view)}[whence]
        if start + offset < 0:
            raise ValueError(f"seeks to {start + offset}, before the file")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, into: Any) -> int:
        found = self._view[self._place : self._place + len(into)]
        into[: len(found)] = found
        self._place += len(found)
        return len(found)


def _stream(content: Buffer) -> io.BytesIO | _View:
    return io.BytesIO(content) if isinstance(content, bytes) else _View(content)


def _check_counts(content: Buffer, start: int) -> None:
    end = start
    while end < len(content) and content[end : end + _CARD] != _END:
        if _COUNT_BEYOND.match(content, end, end + _CARD):
            card = bytes(content[end : end + _CARD]).decode("ascii", "replace").strip()
            raise ValueError(f"more axes or columns than the 999 that FITS has: {card}")
        end += _CARD


def _is_called(hdu: Any, index: int, wanted: int | str) -> bool:
    if isinstance(wanted, int):
        return index == wanted
    asked, called = wanted.strip().upper(), hdu.name.strip().upper()
    if asked == called or (asked == "PRIMARY" and index == 0):
        return True
    base, comma, version = asked.rpartition(",")
    return bool(comma) and base.rstrip() == called and version.strip() == str(hdu.ver)


def _uncompressed(content: Buffer, hdu: Any, max_pixels: int) -> Any:
    """The image that a table holds where it is a tile-compressed one; any other HDU as it is."""
    if not (isinstance(hdu, fits.BinTableHDU) and fits.CompImageHDU.match_header(hdu.header)):
        return hdu
    _check_compression(hdu.header)
    image = fits.CompImageHDU(bintable=hdu)
    heap = _heap(content, hdu)
    _check_gzip(heap, hdu, image, max_pixels)
    _check_hcompress(heap, hdu, image)
    return image


def _heap(content: Buffer, table: fits.BinTableHDU) -> memoryview:
    header = table.header
    start = table.fileinfo()["datLoc"] + header.get("THEAP", header["NAXIS1"] * header["NAXIS2"])
    return memoryview(content)[start : start + header["PCOUNT"]]


def _check_compression(header: fits.Header) -> None:
    """Keep from Astropy's decoders, which are written in C, what would have them leave memory."""
    for card in header["ZNAME*"].cards:
        width = header.get(f"ZVAL{card.keyword.removeprefix('ZNAME')}")
        if str(card.value).upper() == "BYTEPIX" and width not in _BYTES_OF_A_PIXEL:
            raise ValueError(f"pixels of {width} bytes: BYTEPIX is 1, 2, 4 or 8")


def _check_gzip(
    heap: memoryview, table: fits.BinTableHDU, image: fits.CompImageHDU, max_pixels: int
) -> None:
    """Refuse tiles that decompress to more than their image, before all of it is there."""
    header = table.header
    left = most = 8 * min(math.prod(image.shape), max_pixels)
    columns = {"GZIP_COMPRESSED_DATA"}
    if header["ZCMPTYPE"] in ("GZIP_1", "GZIP_2"):
        columns.add("COMPRESSED_DATA")
    for column in columns.intersection(table.columns.names):
        if not re.match("1?[PQ]B", table.columns[column].format):
            raise ValueError(f"{column} is {table.columns[column].format}, not bytes in the heap")
        for size, offset in image.compressed_data[column]:
            tile = gzip.GzipFile(fileobj=io.BytesIO(heap[offset : offset + size]))
            while piece := tile.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise ValueError(f"its tiles are larger than the {most} bytes of an image")


def _check_hcompress(heap: memoryview, table: fits.BinTableHDU, image: fits.CompImageHDU) -> None:
    """Refuse tiles that say they are larger than there is room for, which their decoder believes.

    It is CFITSIO's (issue 131, which Astropy 8.0 still has). A stream begins with two bytes of
    magic and, big-endian in four bytes each, the sides of its tile (White, 1992, `hcompress`).
    """
    if table.header["ZCMPTYPE"] != "HCOMPRESS_1":
        return
    most = math.prod(_tile_shape(table.header))
    for size, offset in image.compressed_data["COMPRESSED_DATA"]:
        stream = bytes(heap[offset : offset + min(size, _HCOMPRESS.size)])
        if not size:
            continue
        magic, *sides = _HCOMPRESS.unpack(stream)
        if magic != _HCOMPRESS_MAGIC or min(sides) < 1 or math.prod(sides) > most:
            raise ValueError(f"an HCOMPRESS_1 tile of {sides} pixels where there are {most}")


def _tile_shape(header: fits.Header) -> list[int]:
    """Sides of its tiles, pixels: by default, rows (FITS Standard 4.0, 10.1.2)."""
    axes = range(1, header["ZNAXIS"] + 1)
    return [int(header.get(f"ZTILE{i}", header["ZNAXIS1"] if i == 1 else 1)) for i in axes]
