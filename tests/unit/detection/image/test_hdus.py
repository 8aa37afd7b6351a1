"""What a header states is not believed where Astropy would count to it."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import read_exposure
from astrotriton.detection.image.hdus import find_image

IMAGE = np.arange(1600, dtype=np.int16).reshape(40, 40)


def written(*hdus: object) -> bytes:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream)
    return stream.getvalue()


def changed(content: bytes, keyword: str, card: str) -> bytes:
    """With another card instead of a keyword's last."""
    start = content.rindex(f"{keyword:8}=".encode())
    return content[:start] + card.ljust(80).encode() + content[start + 80 :]


def table_of(content: bytes) -> fits.BinTableHDU:
    """The table that a compressed image is stored in."""
    return fits.open(io.BytesIO(content), disable_image_compression=True)[1]


def with_tiles(image: fits.CompImageHDU, column: str, streams: list[bytes]) -> bytes:
    """With other tiles than the image's own, in a column."""
    tiles = np.empty(len(streams), object)
    for row, stream in enumerate(streams):
        tiles[row] = np.frombuffer(stream, np.uint8)
    table = fits.BinTableHDU.from_columns([fits.Column(column, "1PB()", array=tiles)])
    stored = table_of(written(image)).header
    table.header.update({name: stored[name] for name in stored if name.startswith("Z")})
    return written(table)


def refused(content: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_exposure(content)
    return caught.value


@pytest.mark.parametrize(
    "card",
    [
        "NAXIS   =  9223372036854775807",
        "naxis   = +0002000000000",
        " NAXIS= 2000000000 / axes",
        "HIERARCH NAXIS = 2000000000",
    ],
)
@pytest.mark.parametrize("hdus", [(), (fits.ImageHDU(IMAGE),)])
def test_no_image_has_more_than_999_axes(card: str, hdus: tuple[fits.ImageHDU, ...]) -> None:
    error = refused(changed(written(*hdus), "NAXIS", card))
    assert error.code == "unreadable-fits"
    assert card.split("/")[0].strip() in error.detail


@pytest.mark.parametrize("extend", ["EXTEND  =                    F", "COMMENT"])
def test_no_extension_is_read_before_its_counts_are_looked_at(extend: str) -> None:
    # Astropy reads the first one where the primary header does not announce it.
    content = changed(written(fits.ImageHDU(IMAGE)), "NAXIS", "NAXIS   =           4294967296")
    error = refused(changed(content, "EXTEND", extend))
    assert error.code == "unreadable-fits"
    assert "4294967296" in error.detail


@pytest.mark.parametrize("keyword", ["TFIELDS", "ZNAXIS", "WCSAXES"])
def test_no_tile_compressed_image_has_more_than_999_columns_or_axes(keyword: str) -> None:
    hdu = fits.CompImageHDU(IMAGE, fits.Header({"WCSAXES": 2}), compression_type="RICE_1")
    card = f"{keyword:8}=           2000000000"
    assert keyword in refused(changed(written(hdu), keyword, card)).detail


def test_an_axis_has_a_whole_number_of_pixels() -> None:
    content = written(fits.CompImageHDU(IMAGE, compression_type="RICE_1"))
    assert "pixels" in refused(changed(content, "ZNAXIS2", "ZNAXIS2 = 1.5D0")).detail


def test_tiles_make_the_image_that_the_header_promises() -> None:
    content = written(fits.CompImageHDU(IMAGE, compression_type="PLIO_1"))
    assert "tiles" in refused(changed(content, "ZTILE2", "ZTILE2  =                  -32")).detail


def test_rice_compressed_pixels_have_a_width_that_its_decoder_knows() -> None:
    content = written(fits.CompImageHDU(IMAGE, compression_type="RICE_1"))
    assert b"ZNAME2  = 'BYTEPIX " in content
    broken = changed(content, "ZVAL2", "ZVAL2   =              1000000")
    assert "BYTEPIX" in refused(broken).detail


REAL = Path(fits.__file__).parent / "hdu/compressed/tests/data"


@pytest.mark.parametrize("kind", ["hcomp", "rice", "gzip", "plio"])
def test_archives_that_cfitsio_compressed_are_read(kind: str) -> None:
    expected = fits.getdata(REAL / "m13.fits")
    found, _ = read_exposure((REAL / f"m13_{kind}.fits").read_bytes()).image()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("data", [IMAGE, (100 * IMAGE).astype(np.int32)])
def test_what_hcompress_compressed_is_read(data: np.ndarray) -> None:
    content = written(fits.CompImageHDU(data, compression_type="HCOMPRESS_1", tile_shape=(8, 8)))
    with fits.open(io.BytesIO(content)) as hdus:
        np.testing.assert_array_equal(read_exposure(content).image()[0], hdus[1].data)


@pytest.mark.parametrize("side", [0, -1, 1 << 20])
def test_hcompress_is_not_believed_about_the_size_of_a_tile(side: int) -> None:
    content = written(fits.CompImageHDU(IMAGE.astype(np.int32), compression_type="HCOMPRESS_1"))
    start = content.index(b"\xdd\x99") + 2
    broken = content[:start] + struct.pack(">i", side) + content[start + 4 :]
    assert "an HCOMPRESS_1 tile" in refused(broken).detail


@pytest.mark.parametrize(
    ("algorithm", "column"), [("GZIP_2", "COMPRESSED_DATA"), ("RICE_1", "GZIP_COMPRESSED_DATA")]
)
def test_a_tile_that_decompresses_without_end_is_refused(algorithm: str, column: str) -> None:
    # The second member is the large one, and says that it is small.
    bomb = gzip.compress(b"small") + gzip.compress(bytes(1 << 22))[:-4] + bytes(4)
    whole = fits.CompImageHDU(IMAGE, compression_type=algorithm, tile_shape=IMAGE.shape)
    assert "larger than the 12800 bytes" in refused(with_tiles(whole, column, [bomb])).detail


def test_tiles_are_together_no_larger_than_their_image() -> None:
    whole = fits.CompImageHDU(IMAGE, compression_type="GZIP_1", tile_shape=(1, 40))
    content = with_tiles(whole, "COMPRESSED_DATA", [gzip.compress(bytes(12800))] * 3)
    assert "larger than the 12800 bytes" in refused(content).detail


@pytest.mark.parametrize("compression", ["GZIP_1", "GZIP_2", "RICE_1"])
def test_floats_are_decompressed_as_astropy_does(compression: str) -> None:
    # Tiles of noise that cannot be quantised lie in a column of their own.
    image = np.random.default_rng(1).normal(size=(40, 40)).astype(np.float32)
    image[:20] = 3.0
    content = written(fits.CompImageHDU(image, compression_type=compression))
    with fits.open(io.BytesIO(content)) as hdus:
        expected = hdus[1].data
    table = table_of(content)
    size = table.header["NAXIS1"] * table.header["NAXIS2"] + table.header["PCOUNT"]
    end = table.fileinfo()["datLoc"] + size
    # Not every writer fills the last block up.
    for file in (content, content[:end]):
        np.testing.assert_array_equal(read_exposure(file).image()[0], expected)


def test_a_file_whose_hdus_lead_back_to_one_another_is_refused() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("A", "E", array=np.zeros(3))])
    content = changed(written(table), "PCOUNT", f"PCOUNT  = {-12 - 2 * 2880:20d}")
    assert "before it begins" in refused(content).detail


def test_an_hdu_is_found_by_its_name_in_either_case() -> None:
    content = written(fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(IMAGE + 1, name="DIFF"))
    np.testing.assert_array_equal(find_image(content, " diff", 1600)[0].data, IMAGE + 1)
    named = fits.PrimaryHDU(IMAGE + 2)
    named.header["EXTNAME"] = "SCI"
    stream = io.BytesIO()
    named.writeto(stream)
    for wanted in ("sci", "primary", 0):
        found, _ = find_image(stream.getvalue(), wanted, 1600)
        np.testing.assert_array_equal(found.data, IMAGE + 2)
