"""Whatever field of a detection is declared, the formats, the messages and the example have it."""

import csv
import io

import msgspec
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from google.protobuf.descriptor import FieldDescriptor

from astrotriton.gateway.dashboard import measurements as shown
from astrotriton.gateway.http.examples import RESPONSE
from astrotriton.gateway.http.formats import CSV, ECSV, FITS, VOTABLE, WRITERS, Listing
from astrotriton.gateway.rpc.detections_pb2 import Detection as Message
from astrotriton.gateway.rpc.messages import from_detections
from astrotriton.wire.columns import FLUX_UNIT, columns_of, nothing_known
from astrotriton.wire.detections import Detection, ScoredDetection, StoredDetection
from astrotriton.wire.runs import InferResponse

COLUMNS = columns_of(ScoredDetection)
KINDS = {
    "float64": {FieldDescriptor.CPPTYPE_DOUBLE},
    "int32": {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_INT32},
    "int16": {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_INT32},
    "bool": {FieldDescriptor.CPPTYPE_BOOL},
    "str": {FieldDescriptor.CPPTYPE_STRING},
}


@pytest.fixture
def example() -> ScoredDetection:
    return msgspec.convert(RESPONSE, InferResponse).detections[0]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_field_says_all_that_a_table_needs(column):
    assert column.title
    assert column.description or column.name == "id"
    assert column.example is not None or column.nullable
    if column.ucd is not None:
        assert check_ucd(column.ucd, check_controlled_vocabulary=True, has_colon=True)
    if column.unit not in (None, FLUX_UNIT):
        u.Unit(column.unit, format="vounit")  # raises if there is none of that name
    np.dtype(column.dtype)


def test_each_field_is_a_column_and_the_science_has_the_same():
    names = [column.name for column in COLUMNS]
    assert names == list(ScoredDetection.__struct_fields__) == list(Detection.__struct_fields__)
    assert [column.dtype for column in columns_of(Detection) if column.name == "id"] == ["int32"]


def test_the_example_has_every_field_and_is_valid(example):
    assert msgspec.json.decode(msgspec.json.encode(example)) == RESPONSE["detections"][0]
    assert set(RESPONSE["detections"][0]) == set(ScoredDetection.__struct_fields__)


@pytest.mark.parametrize("media_type", [VOTABLE, ECSV, FITS])
def test_files_have_every_column_with_its_unit_and_type(media_type, example):
    nothing = msgspec.structs.replace(example, **nothing_known(ScoredDetection))
    run = msgspec.convert(RESPONSE, InferResponse)
    content = WRITERS[media_type](Listing([example, nothing], ScoredDetection, run))
    if media_type == VOTABLE:
        read = parse_single_table(io.BytesIO(content)).to_table()
    elif media_type == FITS:
        read = Table.read(io.BytesIO(content), format="fits", hdu="DETECTIONS")
    else:
        read = Table.read(content.decode().splitlines(), format="ascii.ecsv")
    assert read.colnames == [column.name for column in COLUMNS]
    for column in COLUMNS:
        found = read[column.name]
        unit = run.exposure.flux_unit if column.unit == FLUX_UNIT else column.unit
        assert found.unit == (None if unit is None else u.Unit(unit)), column.name
        if column.dtype != "str":
            assert found.dtype.newbyteorder("=") == np.dtype(column.dtype), column.name
            assert found[0] == column.example or column.example is None, column.name


def test_fits_and_csv_keep_text_and_what_is_unknown(example):
    example = msgspec.structs.replace(example, candidate_id="Müller, 7")
    nothing = msgspec.structs.replace(example, **nothing_known(ScoredDetection))
    run = msgspec.convert(RESPONSE, InferResponse)
    run = msgspec.structs.replace(run, exposure=msgspec.structs.replace(run.exposure, name="März"))
    listing = Listing([example, nothing], ScoredDetection, run)

    [_, hdu] = hdus = fits.open(io.BytesIO(WRITERS[FITS](listing)))
    hdus.verify("exception")
    assert hdu.header["run_id"] == str(run.run_id)
    assert hdu.header["exposure"] == "M\\xe4rz"
    table = Table.read(hdu)
    assert table["candidate_id"][0] == "Müller, 7"
    assert table["snr"].mask[1]
    assert table["flags"][0] == " ".join(example.flags)

    rows = list(csv.DictReader(io.StringIO(WRITERS[CSV](listing).decode())))
    assert rows[0]["candidate_id"] == "Müller, 7"
    assert float(rows[0]["snr"]) == example.snr
    assert rows[0]["is_real"] == str(example.is_real)
    assert rows[1]["snr"] == ""


@pytest.mark.parametrize("media_type", list(WRITERS))
def test_no_detections_are_a_file_too(media_type):
    assert isinstance(WRITERS[media_type](Listing([], StoredDetection)), bytes)


def test_a_file_of_stored_detections_names_their_runs_too():
    names = [column.name for column in columns_of(StoredDetection)]
    assert names == [*(column.name for column in COLUMNS), "run_id", "threshold", "label"]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_the_message_of_grpc_has_the_field(column):
    field = Message.DESCRIPTOR.fields_by_name[column.name]
    assert field.cpp_type in KINDS[column.dtype]
    assert field.has_presence == column.nullable


def test_the_message_of_grpc_has_no_other_and_carries_them(example):
    names = {field.name for field in Message.DESCRIPTOR.fields}
    assert names == {column.name for column in COLUMNS}
    sent = from_detections([example])[0]
    assert sent.fwhm == example.fwhm
    assert sent.sep_flags == example.sep_flags


def test_the_page_of_a_detection_shows_every_field_once(example):
    lines = shown.measurements(example)
    text = {line.title: line.text for line in lines}
    assert text["SNR"] == "21.4 ± 1.15"
    assert text["flux"] == "5210 ± 243 counts"
    assert text["magnitude"] == "20.91 ± 0.051 mag"
    in_jansky = {line.title: line.text for line in shown.measurements(example, "nJy")}
    assert in_jansky["flux"] == "5210 ± 243 nJy"
    assert text["FWHM"] == "4.2 px"
    said_elsewhere = shown._ELSEWHERE | {"snr_err", "flux_err", "mag_err"}
    assert len(lines) == len({column.name for column in COLUMNS} - said_elsewhere)
    nothing = msgspec.structs.replace(example, **nothing_known(ScoredDetection))
    assert {line.text for line in shown.measurements(nothing)} == {"—"}
