"""What a reader does: a request at a time, until the gateway wants no more."""

import contextlib
import io
import mmap
import os
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from astrotriton.detection.arrays import Buffer
from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Exposure, read_exposure
from astrotriton.detection.image.planes import PLANE_FIELDS, Planes
from astrotriton.detection.image.reading import Place, described, read_image
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.detection.sources.candidate_tables import read_candidates
from astrotriton.gateway.readers.messages import (
    REQUESTS,
    Answer,
    FromIcrs,
    ImageRead,
    LabelledField,
    LabelledRead,
    Positions,
    ReadImage,
    Reading,
    ReadLabelled,
    ReadTable,
    Ready,
    Refused,
    Request,
    Span,
    TableRead,
    ToIcrs,
    Unforeseen,
    receive,
    send,
)
from astrotriton.gateway.readers.sandbox import allow_seconds

_ALIGNED = 64  # bytes


class Reader:
    """Answers requests about files.

    Parameters
    ----------
    connection
        To the gateway.
    files
        Memory that the gateway puts files into.
    outputs
        Empty files in memory; pixels that lie in no file go into the next of them.
    """

    def __init__(self, connection: socket.socket, files: mmap.mmap, outputs: Iterable[int]) -> None:
        self._connection = connection
        self._files = memoryview(files)
        self._outputs = iter(outputs)
        self._exposure: Exposure | None = None
        self._field = "exposure"

    def serve(self, confined_by: str) -> None:
        """Say that it is ready, and answer until the gateway closes the connection."""
        send(self._connection, Ready(confined_by))
        while True:
            try:
                request, _ = receive(self._connection, REQUESTS)
            except EOFError:
                return
            allow_seconds(request.seconds)
            kept = _Kept(self._outputs)
            send(self._connection, self._answer(request, kept), kept.file)
            kept.close()

    def _answer(self, request: Request, kept: "_Kept") -> Answer:
        try:
            match request:
                case ReadImage():
                    return self._read_image(request, kept)
                case ReadTable():
                    self._field = "candidates"
                    table = bytes(self._file(request.file))
                    most, size = request.max_candidates, request.max_bytes
                    return TableRead(read_candidates(table, most, size))
                case ReadLabelled():
                    self._field = "dataset"
                    return _labelled(bytes(self._file(request.file)), kept)
                case ToIcrs() | FromIcrs():
                    return self._convert(request)
        except InputError as error:
            return Refused(
                code=error.code,
                field=error.field,
                detail=error.detail,
                too_large=isinstance(error, TooLargeError),
            )
        except MemoryError:
            detail = "takes more memory than a file may: send a part of it, or set READER_MEMORY"
            return Refused(code="too-large", field=self._field, detail=detail, too_large=True)
        except Exception:
            return Unforeseen(traceback.format_exc())

    def _begin(self, field: str) -> None:
        self._field = field
        send(self._connection, Reading(field))

    def _file(self, span: Span) -> memoryview:
        return self._files[span.start : span.start + span.length]

    def _read_image(self, request: ReadImage, kept: "_Kept") -> ImageRead:
        self._field = "exposure"
        files: dict[str, Buffer] = {name: self._file(at) for name, at in request.files.items()}
        self._exposure, opened = read_image(
            files["exposure"],
            hdu=request.hdu,
            planes=Planes(
                mask=files.get("mask"),
                weight=files.get("weight"),
                psf=files.get("psf"),
                science=files.get("science"),
                template=files.get("template"),
                mask_hdu=request.mask_hdu,
                weight_hdu=request.weight_hdu,
                psf_hdu=request.psf_hdu,
                science_hdu=request.science_hdu,
                template_hdu=request.template_hdu,
            ),
            observation=request.observation,
            limits=request.limits,
            cube=request.cube,
            # Of one file alone it is known what ended its reader.
            begin=self._begin if len(files) > 1 else lambda field: None,
        )
        images = {"exposure": self._exposure}
        for name in PLANE_FIELDS:
            if (plane := getattr(opened, name)) is not None:
                images[name] = plane
        found = {name: described(image, files, kept.put) for name, image in images.items()}
        return ImageRead(images=found, kept=kept.size)

    def _convert(self, request: ToIcrs | FromIcrs) -> Positions:
        assert self._exposure is not None
        first, second = np.frombuffer(request.positions, np.float64).reshape(2, -1)
        known = self._exposure.sky if isinstance(request, ToIcrs) else self._exposure.pixels_of
        return Positions(known(first, second).tobytes())


class _Kept:
    """What goes into an output, one array after the other."""

    def __init__(self, outputs: Iterable[int]) -> None:
        self._outputs = iter(outputs)
        self.file: int | None = None
        self.size = 0

    def put(self, array: NDArray[np.generic]) -> int:
        """Keep an array, C-contiguous; says at which offset."""
        if self.file is None:
            self.file = next(self._outputs)
        start = -(-self.size // _ALIGNED) * _ALIGNED
        content, done = memoryview(array.reshape(-1).view(np.uint8).data), 0
        try:
            while done < len(content):
                done += os.pwrite(self.file, content[done:], start + done)
        except OSError as error:  # beyond what a file of its may have
            raise MemoryError from error
        self.size = start + len(content)
        return start

    def close(self) -> None:
        """Let go of it: the gateway has it now."""
        if self.file is not None:
            os.close(self.file)


def _labelled(content: bytes, kept: _Kept) -> LabelledRead:
    try:
        found = ValidationSet.from_fits(content)
    except ValueError as error:
        raise InputError("bad-dataset", "dataset", str(error)) from error

    def put(image: NDArray[np.float32]) -> Place:
        image = np.ascontiguousarray(image)
        (height, width), (rows, columns) = image.shape, image.strides
        return Place(None, kept.put(image), image.dtype.str, (height, width), (rows, columns))

    fields = []
    for one in found.fields:
        known = one.transients
        fields.append(
            LabelledField(
                image=put(one.image),
                companions={name: put(image) for name, image in one.companions.items()},
                positions=known.positions.tolist(),
                snr=known.snr.tolist(),
                polarity=known.polarity.tolist(),
                fwhm=known.fwhm.tolist(),
                hosted=known.hosted.tolist(),
                saturated=known.saturated.tolist(),
            )
        )
    return LabelledRead(description=found.description, fields=fields, kept=kept.size)


def practise(files: Iterable[bytes]) -> None:
    """Read small exposures, for what happens the first time.

    What is imported late is imported then, which a reader can do no more; and the memory that
    reading needs is there before somebody waits.
    """
    for content in files:
        exposure, _ = read_image(content)
        exposure.image()
        described(exposure, {"exposure": content}, lambda array: 0)
        exposure.sky(*np.zeros((2, 1)))
        exposure.pixels_of(*np.full((2, 1), 10.0))


def practise_tables() -> None:
    """The same for tables of candidates, and for broken files."""
    rows = Table({"x": [1.0, 2.0], "y": [3.0, 4.0]}, units={"x": "pix", "y": "pix"})
    text = io.StringIO()
    rows.write(text, format="ascii.ecsv")
    tables = [b"x,y\n1,2\n", text.getvalue().encode()]
    for kind in ("votable", "fits"):
        stream = io.BytesIO()
        rows.write(stream, format=kind)
        tables.append(stream.getvalue())
    for table in tables:
        read_candidates(table, 10, 100_000)
    for broken in (b"SIMPLE  =", b"<?xml version='1.0'?><VOTABLE>", b"\x1f\x8b", b"# %ECSV 1.0"):
        for read in (read_exposure, lambda content: read_candidates(content, 10, 100_000)):
            with contextlib.suppress(InputError):
                read(broken)


def samples() -> list[bytes]:
    """An exposure of each kind that there is."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["CRPIX1"], header["CRPIX2"] = 16.5, 16.5
    header["CRVAL1"], header["CRVAL2"] = 10.0, 10.0
    header["CD1_1"], header["CD2_2"] = -7e-5, 7e-5
    header["DATE-OBS"], header["EXPTIME"] = "2026-01-01T00:00:00", 30.0
    header["BUNIT"], header["MAGZERO"] = "adu", 25.0
    galactic, sip = header.copy(), header.copy()
    galactic["CTYPE1"], galactic["CTYPE2"] = "GLON-CAR", "GLAT-CAR"
    sip["CTYPE1"], sip["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    sip["A_ORDER"], sip["A_2_0"], sip["B_ORDER"], sip["B_0_2"] = 2, 1e-6, 2, 1e-6
    sip["TIMESYS"], sip["BUNIT"] = "TDB", "nJy"
    image = np.arange(1024.0, dtype=np.float32).reshape(32, 32)
    whole = image.astype(np.int16)
    hdus: list[Callable[[], Any]] = [
        lambda: fits.PrimaryHDU(image, header),
        lambda: fits.PrimaryHDU(whole, galactic),
        lambda: fits.PrimaryHDU(image, sip),
        *(
            lambda kind=kind, data=data: fits.CompImageHDU(data, header, compression_type=kind)
            for kind, data in (
                *(("RICE_1", image), ("GZIP_1", image), ("GZIP_2", image)),
                *(("PLIO_1", whole), ("HCOMPRESS_1", whole)),
            )
        ),
    ]
    found = []
    for make in hdus:
        stream = io.BytesIO()
        hdu = make()
        primary = [] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU()]
        fits.HDUList([*primary, hdu]).writeto(stream)
        found.append(stream.getvalue())
    return found
