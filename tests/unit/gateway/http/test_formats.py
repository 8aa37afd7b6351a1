"""What the files say beside the rows: the run, its model and its exposure, frames and scales."""

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from astropy import units as u
from astropy.io.votable import parse, validate
from astropy.table import Table
from regions import Regions

from astrotriton.detection.errors import InputError
from astrotriton.detection.sources.candidate_tables import read_candidates
from astrotriton.gateway.http.examples import RESPONSE
from astrotriton.gateway.http.formats import DS9, ECSV, VOTABLE, WRITERS, Listing
from astrotriton.gateway.http.forms import decode_request
from astrotriton.wire.detections import ScoredDetection, StoredDetection
from astrotriton.wire.runs import InferResponse

RUN = msgspec.convert(RESPONSE, InferResponse)


def of(**exposure: Any) -> InferResponse:
    replaced = msgspec.structs.replace(RUN.exposure, **exposure)
    return msgspec.structs.replace(RUN, exposure=replaced)


def votable(run: InferResponse = RUN) -> Any:
    content = WRITERS[VOTABLE](Listing(run.detections, ScoredDetection, run))
    told = io.StringIO()
    assert validate(io.BytesIO(content), told), told.getvalue()
    return parse(io.BytesIO(content), verify="exception")


def test_a_votable_has_frame_scale_ucds_and_parameters():
    file = votable(of(time_scale="TAI"))
    resource = file.resources[0]
    table = resource.tables[0]
    (frame,) = resource.coordinate_systems
    assert (frame.ID, frame.system) == ("icrs", "ICRS")
    (scale,) = resource.time_systems
    assert (scale.timescale, scale.refposition) == ("TAI", "TOPOCENTER")
    fields = {field.name: field for field in table.fields}
    assert (fields["ra"].ucd, fields["ra"].ref) == ("pos.eq.ra;meta.main", "icrs")
    assert (fields["flux"].ucd, str(fields["flux"].unit)) == ("phot.flux", "adu")
    assert (fields["mag"].ucd, str(fields["mag"].unit)) == ("phot.mag", "mag")
    assert "0-based" in fields["x"].description
    params = {param.name: param for param in table.params}
    assert params["run_id"].value == str(RUN.run_id)
    assert params["model_version"].value == RUN.model.version
    assert params["mjd_mid"].value == RUN.exposure.mjd_mid
    assert (params["mjd_mid"].ref, params["mjd_mid"].unit) == ("time", u.d)
    assert params["filter"].value == RUN.exposure.filter
    assert params["zero_point"].value == RUN.exposure.zero_point
    assert params["limiting_magnitude"].value == RUN.image.limiting_magnitude
    assert params["observed_at"].value == "2018-08-04T09:26:16.598000+00:00"


def test_what_is_unknown_is_left_out():
    unknown = dict.fromkeys(("mjd_mid", "time_scale", "observed_at", "filter", "flux_unit"))
    table = votable(of(**unknown)).resources[0].tables[0]
    assert not unknown.keys() & {param.name for param in table.params}
    assert next(field for field in table.fields if field.name == "flux").unit is None


@pytest.mark.parametrize("unit", ["nJy", "electron", "MJy/sr", "intensity", "a b <&>"])
def test_a_unit_is_written_as_the_header_states_it(unit):
    listing = Listing(RUN.detections, ScoredDetection, of(flux_unit=unit))
    ecsv = Table.read(WRITERS[ECSV](listing).decode(), format="ascii.ecsv")
    assert str(ecsv["flux"].unit).replace(" ", "") == unit.replace(" ", "")
    assert len(parse(io.BytesIO(WRITERS[VOTABLE](listing))).get_first_table().array) == 1


def test_ecsv_has_units_and_the_run():
    listing = Listing(RUN.detections, ScoredDetection, RUN)
    table = Table.read(WRITERS[ECSV](listing).decode(), format="ascii.ecsv")
    assert table["flux_err"].unit == u.adu
    assert table["mag"].unit == u.mag
    assert table.meta["run"]["filter"] == RUN.exposure.filter
    assert table.meta["run"]["mjd_mid"] == RUN.exposure.mjd_mid
    assert "centre of the first pixel" in table["x"].description


def test_regions_carry_the_run_as_comments():
    text = WRITERS[DS9](Listing(RUN.detections, ScoredDetection, RUN)).decode()
    assert f"# filter = {RUN.exposure.filter}" in text.splitlines()
    assert len(Regions.parse(text, format="ds9")) == 1
    assert WRITERS[DS9](Listing([], ScoredDetection)) == b""


def test_rows_of_several_exposures_say_each_how_it_was_taken():
    def stored(**exposure: Any) -> StoredDetection:
        fields = msgspec.structs.asdict(RUN.detections[0]) | {
            "run_id": RUN.run_id,
            "created_at": RUN.created_at,
            "threshold": RUN.threshold,
            "model": RUN.model,
            "exposure": msgspec.structs.replace(RUN.exposure, **exposure),
        }
        return StoredDetection(**fields)

    noon = datetime(2000, 1, 1, 12, tzinfo=UTC)
    rows = [stored(observed_at=noon, flux_unit="nJy"), stored(observed_at=None, filter="r")]
    content = WRITERS[VOTABLE](Listing(rows, StoredDetection))
    found = parse(io.BytesIO(content), verify="exception").get_first_table()
    table = found.to_table()
    assert table["mjd_utc"].tolist() == [51544.5, None]
    assert list(table["filter"]) == [RUN.exposure.filter, "r"]
    assert list(table["flux_unit"]) == ["nJy", "adu"]
    assert table["flux"].unit is None
    assert list(table["exposure"]) == 2 * [RUN.exposure.name]


def test_every_format_gives_back_the_ids_that_may_be_sent():
    sent = [
        *(f"a{chr(code)}b" for code in (0x20, 0xA0, 0x1680, 0x200B, 0x3000, 0xFDD0, 0xFEFF)),
        *(f"a{chr(code)}" for code in (0xA0, 0xE000, 0xFFFD, 0x1F52D, 0x1FFFE, 0x10FFFF)),
        *("nan", "--", "None", "0", "1.0", '"', "<&>", "a,b", "a  b", "'", "\\", "#"),
    ]
    request = {"candidates": [{"id": one, "x": 1.0, "y": 2.0} for one in sent]}
    assert decode_request(msgspec.json.encode(request)).candidates is not None
    rows = [msgspec.structs.replace(RUN.detections[0], candidate_id=one) for one in sent]
    listing = Listing(rows, ScoredDetection, RUN)
    table = parse(io.BytesIO(WRITERS[VOTABLE](listing)), verify="exception").get_first_table()
    assert [str(one) for one in table.array["candidate_id"]] == sent
    text = WRITERS[ECSV](listing).decode()
    assert [str(one) for one in Table.read(text, format="ascii.ecsv")["candidate_id"]] == sent


@pytest.mark.parametrize("lost", ["\x85", "\u2028", "\u2029", "\ufffe", "\uffff", "\x1b", "\n"])
def test_ids_that_some_format_would_lose_are_refused(lost):
    for name in (lost, f"a{lost}", f"{lost}a", f"a{lost}b", " a", "a ", ""):
        request = {"candidates": [{"id": name, "x": 1.0, "y": 2.0}]}
        with pytest.raises(InputError) as refused:
            decode_request(msgspec.json.encode(request))
        assert refused.value.field == "candidates[0].id"
        table = f'id,x,y\n"a{lost}b",1,2\n'.encode()
        with pytest.raises(InputError):
            read_candidates(table, 10, 10_000)
