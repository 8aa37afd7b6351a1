import bz2
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.exposure import Limits, read_exposure
from tests.unit.detection.conftest import field, to_fits, to_npy

IMAGE = field((40, 50), ())
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 10.0,
    "CRVAL2": 20.0,
    "CRPIX1": 1.0,
    "CRPIX2": 1.0,
    "CDELT1": -1e-4,
    "CDELT2": 1e-4,
}


def npy_of_shape(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


def refused(content: bytes, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_exposure(content, **options).image()  # type: ignore[arg-type]
    return caught.value


def test_fits_becomes_native_float32() -> None:
    exposure = read_exposure(to_fits(IMAGE.astype(">f8")))
    data, mask = exposure.image()
    assert data.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(data, IMAGE)
    assert not mask.any()
    assert exposure.flags == {"no_wcs"}


def test_scaled_integers_and_blank() -> None:
    stored = np.arange(2000, dtype=np.int16).reshape(40, 50)
    hdu = fits.PrimaryHDU(stored)
    hdu.header.update({"BSCALE": 0.5, "BZERO": 100.0, "BLANK": 7})
    stream = io.BytesIO()
    hdu.writeto(stream)
    data, mask = read_exposure(stream.getvalue()).image()
    assert mask.sum() == 1
    assert mask[0, 7]
    assert data[1, 0] == pytest.approx(125.0)


@pytest.mark.parametrize("stored", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_every_type_of_pixel_is_read_as_astropy_reads_it(stored: str) -> None:
    # Unsigned ones are stored with an offset.
    stream = io.BytesIO()
    fits.PrimaryHDU(np.arange(12, dtype=stored).reshape(3, 4)).writeto(stream)
    with fits.open(io.BytesIO(stream.getvalue())) as hdus:
        expected = hdus[0].data
    data, mask = read_exposure(stream.getvalue()).image()
    np.testing.assert_array_equal(data, expected)
    assert not mask.any()


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_tile_compressed(compression: str) -> None:
    stored = np.arange(1600, dtype=np.int16).reshape(40, 40)
    stream = io.BytesIO()
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(stored, compression_type=compression, name="SCI")]
    fits.HDUList(hdus).writeto(stream)
    exposure = read_exposure(stream.getvalue())
    np.testing.assert_array_equal(exposure.image()[0], stored)
    assert exposure.name == "SCI"


def test_gzip() -> None:
    data, _ = read_exposure(gzip.compress(to_fits(IMAGE))).image()
    np.testing.assert_array_equal(data, IMAGE)


def test_hdu_by_index_and_name() -> None:
    stream = io.BytesIO()
    second = fits.ImageHDU(IMAGE + 1, name="DIFF")
    fits.HDUList([fits.PrimaryHDU(IMAGE), second]).writeto(stream)
    content = stream.getvalue()
    for hdu, expected in ((None, IMAGE), (1, IMAGE + 1), ("DIFF", IMAGE + 1)):
        data, _ = read_exposure(content, hdu=hdu).image()  # type: ignore[arg-type]
        np.testing.assert_array_equal(data, expected)
    missing = refused(content, hdu="SCI")
    assert (missing.code, missing.field) == ("no-such-hdu", "hdu")
    assert "1: DIFF" in missing.detail


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_either_order(order: str) -> None:
    exposure = read_exposure(to_npy(np.array(IMAGE.astype(">f8"), order=order)))  # type: ignore[call-overload]
    np.testing.assert_array_equal(exposure.image()[0], IMAGE)


def test_sky_is_zero_based_icrs() -> None:
    exposure = read_exposure(to_fits(IMAGE, **TAN))
    ra, dec = exposure.sky(np.array([0.0]), np.array([0.0]))
    assert (ra[0], dec[0]) == (pytest.approx(10.0), pytest.approx(20.0))
    assert exposure.flags == frozenset()


def test_galactic_is_converted() -> None:
    header = TAN | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 0.0, "CRVAL2": 0.0}
    ra, dec = read_exposure(to_fits(IMAGE, **header)).sky(np.array([0.0]), np.array([0.0]))
    assert (ra[0], dec[0]) == (pytest.approx(266.405, abs=1e-3), pytest.approx(-28.936, abs=1e-3))


def test_without_wcs_there_is_no_sky() -> None:
    assert np.isnan(read_exposure(to_npy(IMAGE)).sky(np.zeros(3), np.zeros(3))).all()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not-fits"),
        (b"hello, this is no exposure", "not-fits"),
        (to_fits(IMAGE)[:2880], "unreadable-fits"),
        (b"SIMPLE  =                    T" + bytes(3000), "unreadable-fits"),
        (to_fits(np.zeros(30, np.float32)), "wrong-dimensions"),
        (to_fits(np.zeros((2, 30, 30), np.float32)), "wrong-dimensions"),
        (to_npy(np.zeros(30)), "wrong-dimensions"),
        (to_npy(np.zeros((2, 30, 30))), "wrong-dimensions"),
        (to_npy(np.zeros((30, 30), complex)), "unreadable-npy"),
        (to_npy(np.array([[{}]], object)), "unreadable-npy"),
        (to_npy(IMAGE)[:-1], "unreadable-npy"),
        (b"\x93NUMPY\x09\x00rubbish", "unreadable-npy"),
        (npy_of_shape("(-2, 3)"), "unreadable-npy"),
        (npy_of_shape("(2, 3"), "unreadable-npy"),
        (npy_of_shape("(True, 3)"), "unreadable-npy"),
        (npy_of_shape("(0, 3)"), "wrong-dimensions"),
        (gzip.compress(to_fits(IMAGE))[:-20], "unreadable-fits"),
        (b"\x1f\x8brubbish", "unreadable-fits"),
    ],
)
def test_refused(content: bytes, code: str) -> None:
    error = refused(content)
    assert error.code == code
    assert error.field == "exposure"


def test_tables_only_is_no_image() -> None:
    stream = io.BytesIO()
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[1.0])])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(stream)
    assert refused(stream.getvalue()).code == "no-image"
    assert refused(stream.getvalue(), hdu=1).code == "no-image"


def test_degenerate_axes_are_dropped() -> None:
    assert read_exposure(to_fits(IMAGE[None])).image()[0].shape == IMAGE.shape


def test_bounds() -> None:
    with pytest.raises(TooLargeError, match="bytes"):
        read_exposure(to_fits(IMAGE), limits=Limits(max_bytes=1000))
    with pytest.raises(TooLargeError, match="pixels"):
        read_exposure(to_fits(IMAGE), limits=Limits(max_pixels=1999))
    with pytest.raises(TooLargeError, match="decompressed"):
        read_exposure(gzip.compress(bytes(10**7)), limits=Limits(max_bytes=10**6))


def test_a_header_cannot_claim_more_pixels_than_are_taken() -> None:
    huge = to_fits(IMAGE).replace(
        b"NAXIS1  =                   50", b"NAXIS1  =               999999"
    )
    assert refused(huge, limits=Limits(max_pixels=10**6)).code == "too-large"


def test_a_saturation_that_cannot_be_read_is_none() -> None:
    content = to_fits(IMAGE, SATURATE=50000.0)
    assert read_exposure(content).saturation == 50000.0
    broken = content.replace(b"SATURATE=              50000.0", b"SATURATE= '50000.0            ")
    assert broken != content
    assert read_exposure(broken).saturation is None


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_unsigned_integers_are_read_exactly(bits):
    values = np.array([[0, 1, 2000], [7, 2**bits // 2, 2**bits - 1]], dtype=f"u{bits // 8}")
    stream = io.BytesIO()
    fits.PrimaryHDU(values).writeto(stream)
    exposure = read_exposure(stream.getvalue())
    read = exposure.raw(slice(0, 2), slice(0, 3))
    assert read.tolist() == values.tolist()
    pixels, mask = exposure.image()
    np.testing.assert_array_equal(pixels, values.astype(np.float32))
    assert not mask.any()


def test_blank_is_masked_among_unsigned_integers():
    stream = io.BytesIO()
    hdu = fits.PrimaryHDU(np.array([[0, 5], [7, 2000]], np.uint64))
    hdu.header["BLANK"] = 5 - 2**63
    hdu.writeto(stream)
    pixels, mask = read_exposure(stream.getvalue()).image()
    np.testing.assert_array_equal(mask, [[False, True], [False, False]])
    assert pixels[1, 1] == 2000.0


@pytest.mark.parametrize(("wanted", "value"), [("SCI,2", 2.0), ("sci, 2", 2.0), ("SCI", 1.0)])
def test_extver_tells_hdus_of_one_name_apart(wanted, value):
    stream = io.BytesIO()
    images = [fits.ImageHDU(np.full((8, 9), n, np.float32), name="SCI", ver=n) for n in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(stream)
    exposure = read_exposure(stream.getvalue(), hdu=wanted)
    assert exposure.image()[0][0, 0] == value
    assert exposure.name == ("SCI,2" if value == 2.0 else "SCI")
    with pytest.raises(InputError, match="1: SCI, 2: SCI,2"):
        read_exposure(stream.getvalue(), hdu="SCI,3")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_compressed_file_is_read(compress):
    stream = io.BytesIO()
    fits.PrimaryHDU(np.full((8, 9), 3.0, np.float32)).writeto(stream)
    assert read_exposure(compress(stream.getvalue())).image()[0][0, 0] == 3.0
