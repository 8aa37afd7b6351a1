"""What the clients answer with shows itself: in a line, as tables, as a picture."""

import io

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from PIL import Image

from astrotriton.client import (
    ClientError,
    FoundDetection,
    Run,
    UnreadableError,
    to_pandas,
    to_table,
)
from astrotriton.client.results import Cutout, joined
from astrotriton.gateway.http.examples import RESPONSE
from astrotriton.wire.columns import columns_of
from astrotriton.wire.detections import ScoredDetection

mpl.use("Agg")

FIRST = RESPONSE["detections"][0]
LOST = {
    **dict.fromkeys(FIRST),
    "id": "019ac5b0-6f0e-7c11-9d0a-2f4f1d9e7b53",
    "rank": 2,
    "candidate_id": "<b>lost</b>",
    "is_real": False,
    "polarity": 1,
    "outcome": "unscored",
    "unscored_reason": "off_image",
    "flags": ["masked"],
}


def run(**more: object) -> Run:
    answer = RESPONSE | {"detections": [FIRST, LOST], "flags": ["no_wcs"], **more}
    return msgspec.json.decode(msgspec.json.encode(answer), type=Run)


def found() -> list[FoundDetection]:
    more = {
        name: RESPONSE[name] for name in ("run_id", "created_at", "threshold", "model", "exposure")
    }
    rows = [{**one, **more, "label": label} for one, label in ((FIRST, "real"), (LOST, None))]
    return msgspec.convert(rows, list[FoundDetection])


def test_each_is_a_line() -> None:
    made = run()
    lines = [repr(one) for one in (made, *made.detections, *found())]
    assert all("\n" not in line and len(line) < 200 for line in lines)
    assert "1 real of 2 detections of decam_difference" in lines[0]
    assert "no_wcs" in lines[0]
    assert "RA 318.10823 Dec -66.01572, real, confidence 0.980, SNR 21.4" in lines[1]
    assert "without a place, unscored off_image" in lines[2]
    assert lines[3].endswith("of decam_difference, labelled real>")


def test_html_is_short_and_escaped() -> None:
    many = run(detections=[FIRST] * 500, exposure=RESPONSE["exposure"] | {"name": "<script>"})
    shown = many._repr_html_()
    assert len(shown) < 10_000
    assert "<script>" not in shown
    assert "and 480 less confident" in shown
    assert "<td>dipole</td>" not in shown


def test_a_table_has_units_and_the_sky() -> None:
    table = run().to_table()
    names = [column.name for column in columns_of(ScoredDetection)]
    assert table.colnames == [*names, "coord"]
    assert len(table) == 2
    assert table["flux"].unit == u.adu
    assert table["mag"].unit == u.mag
    assert np.isnan(table["snr"][1])
    assert table["coord"][0].separation(SkyCoord(318.10823, -66.01572, unit="deg")) < 1 * u.mas
    assert table.meta["model"] == "unet_astronomical:7"
    assert table["sep_flags"].mask.tolist() == [False, True]
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    assert len(run(detections=[]).to_table()) == 0


def test_rows_that_were_looked_up_say_where_they_come_from() -> None:
    rows = found()
    table, frame = to_table(rows), to_pandas(iter(rows))
    assert list(table["exposure"]) == list(frame["exposure"]) == ["decam_difference"] * 2
    assert list(frame["label"]) == ["real", ""]
    assert table["flux"].unit == u.adu
    assert frame["mjd_mid"].tolist() == [58334.39324766] * 2


def test_a_frame_has_a_column_for_each_field() -> None:
    frame = run().to_pandas()
    assert list(frame) == [column.name for column in columns_of(ScoredDetection)]
    assert frame["snr"].dtype == float
    assert frame["sep_flags"].isna().tolist() == [False, True]
    assert frame["is_real"].tolist() == [True, False]
    assert frame["flags"].tolist() == ["", "masked"]
    assert len(run(detections=[]).to_pandas()) == 0


def test_a_picture_marks_what_was_called_real() -> None:
    data = np.random.default_rng(1).normal(size=(256, 256)).astype(np.float32)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name="SCI", ver=2)])
    exposure = RESPONSE["exposure"] | {"hdu": "SCI,2"}
    axes = joined(run(exposure=exposure), hdus, None).plot()
    assert np.array_equal(axes.images[0].get_array(), data)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "real (1)",
        "not real (0)",
    ]
    assert not run().plot().images
    assert run().plot("s3://nights/a.fits").get_xlim() == (-0.5, 255.5)
    npy = RESPONSE["exposure"] | {"hdu": "npy"}
    assert np.array_equal(run(exposure=npy).plot(data).images[0].get_array(), data)
    with pytest.raises(UnreadableError, match=r"\(256, 255\) pixels"):
        run(exposure=npy).plot(data[:, 1:])
    with pytest.raises(UnreadableError, match="cannot be read"):
        run(exposure=npy).plot(b"no image")


def test_a_detection_asks_its_client_for_its_picture() -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save(file, "png")
    made = joined(run(), None, lambda one: Cutout(file.getvalue()))
    picture = made.detections[0].cutout()
    assert picture._repr_png_() == file.getvalue()
    assert picture.to_array().tolist() == [[3, 4, 5], [0, 1, 2]]
    with pytest.raises(ClientError, match=r"client.cutout\(detection.id\)"):
        run().detections[0].cutout()
