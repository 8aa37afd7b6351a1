"""Tables of candidates, as those that write them leave them."""

import bz2
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.sources.candidate_tables import (
    FIELD,
    POSITION_COLUMNS,
    read_candidates,
)
from astrotriton.wire.detections import Candidate, CandidateIn


def read(content: bytes, most: int = 100) -> list[Candidate]:
    return [one.named(str(i)) for i, one in enumerate(read_candidates(content, most, 1_000_000))]


def written(table: Table, form: str) -> bytes:
    if form in ("votable", "fits"):
        file = io.BytesIO()
        table.write(file, format=form)
        return file.getvalue()
    text = io.StringIO()
    table.write(text, format=form)
    return text.getvalue().encode()


FORMS = ("ascii.csv", "ascii.ecsv", "votable", "fits")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pair", POSITION_COLUMNS, ids=lambda pair: "/".join(pair.names))
def test_every_pair_of_columns_in_every_format(pair, form):
    first, second = pair.names
    table = Table({"id": ["007", "b"], first: [12.0, 30.25], second: [5.5, 40.0], "mag": [1, 2]})
    found = read(written(table, form))
    assert [one.id for one in found] == ["007", "b"]
    given = [(one.ra, one.dec) if pair.sky else (one.x, one.y) for one in found]
    shift = 0 if pair.sky else pair.first
    assert given == [(12.0 - shift, 5.5 - shift), (30.25 - shift, 40.0 - shift)]
    if not pair.exact:
        table.rename_columns([first, second], [first.swapcase(), second.swapcase()])
        assert read(written(table, form)) == found


def test_a_catalogue_that_sextractor_wrote():
    content = b"""#   1 NUMBER        Running object number
#   2 X_IMAGE       Object position along x   [pixel]
#   3 Y_IMAGE       Object position along y   [pixel]
#   4 ALPHA_J2000   Right ascension           [deg]
#   5 DELTA_J2000   Declination               [deg]
         1    9.5000   20.0000   10.0    -3.0
        17   90.0475   18.0000   11.0    -4.0
"""
    found = read(content)
    assert [(one.id, one.x, one.y, one.ra, one.dec) for one in found] == [
        ("1", 8.5, 19.0, 10.0, -3.0),
        ("17", pytest.approx(89.0475), 17.0, 11.0, -4.0),
    ]


def test_a_catalogue_of_several_tables():
    head = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD")
    objects = fits.BinTableHDU(
        Table({"NUMBER": np.array([4], "i4"), "XWIN_IMAGE": [2.0], "YWIN_IMAGE": [3.0]}),
        name="LDAC_OBJECTS",
    )
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), head, objects]).writeto(file)
    assert [(one.id, one.x, one.y) for one in read(file.getvalue())] == [("4", 1.0, 2.0)]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_number_is_null(form):
    x = MaskedColumn([1.0, np.nan, 3.0, 4.0], mask=[False, False, True, False])
    table = Table({"x": x, "y": [1.0, 2.0, 3.0, np.inf]})
    found = read_candidates(written(table, form), 10, 100_000)
    assert [(one.x, one.y) for one in found] == [(1.0, 1.0), (None, 2.0), (None, 3.0), (4.0, None)]


@pytest.mark.parametrize(
    "content",
    [
        b"x,y\n1,2\nleft,4\n",
        b"\xef\xbb\xbfx;y\r\n1;2\r\nleft;4\r\n",
        b"# from a script\n\nx\ty\n1\t2\n\t4\n",
        b"x,y,note\n1,2,\n,4\n",
        gzip.compress(b"x,y\n1,2\n,4\n", mtime=0),
        bz2.compress(b'"x","y"\n"1","2"\n"","4"\n'),
    ],
)
def test_csv_as_programs_write_it(content):
    found = read_candidates(content, 10, 10_000)
    assert found == [CandidateIn(x=1.0, y=2.0), CandidateIn(x=None, y=4.0)]


def test_a_right_ascension_in_another_unit_becomes_degrees():
    table = QTable({"ra": [1.0], "dec": [0.5]}, units={"ra": "hourangle", "dec": "rad"})
    found = read(written(table, "ascii.ecsv"))[0]
    assert (found.ra, found.dec) == (pytest.approx(15.0), pytest.approx(np.rad2deg(0.5)))
    table = QTable({"ra": [1.0], "dec": [0.5]}, units={"ra": "m", "dec": "deg"})
    with pytest.raises(InputError, match="ra is in m; give degrees"):
        read(written(table, "ascii.ecsv"))


def votable(fields: str, rows: str = "<TR><TD>1</TD><TD>2</TD></TR>", table: str = "") -> bytes:
    return (
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE><TABLE {table}>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>"
        "</RESOURCE></VOTABLE>"
    ).encode()


XY = '<FIELD name="x" datatype="double"/><FIELD name="y" datatype="double"/>'


def test_a_votable_is_read():
    assert [(one.x, one.y) for one in read(votable(XY))] == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no name"),
        (b"1.0,2.0\n", "it has the columns 1.0, 2.0"),
        (b"X,Y\n1,2\n", "it has the columns X, Y"),
        (b"x,y\n1,2,3\n", "row 1 has 3 cells"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
        (b'x,y\n"1,2\n', "Error"),
        (b"%PDF-1.4", "%PDF"),
        (fits.PrimaryHDU(np.zeros((3, 3))).header.tostring().encode(), "tables"),
        (votable('<FIELD name="a" datatype="int"/>', "<TR><TD>1</TD></TR>"), "columns a"),
        (votable(XY)[:200], "Error"),
        (votable(XY).replace(b"TABLEDATA", b"STREAM"), "TABLEDATA"),
        (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><VOTABLE/>", "DOCTYPE"),
        (b"# %ECSV 1.0\n# ---\n# datatype: [\nx y\n", "Error"),
        (b"# %ECSV 1.0\n# ---\n# - a\nx y\n1 2\n", "Error"),
        (gzip.compress(b"x,y\n1,2\n", mtime=0)[:-9], "too early"),
    ],
)
def test_what_is_no_table_of_candidates(content, said):
    with pytest.raises(InputError, match=said) as refused:
        read(content)
    assert refused.value.code == "unreadable-table"
    assert refused.value.field == FIELD
    assert "X_IMAGE/Y_IMAGE" in refused.value.detail


@pytest.mark.parametrize("form", FORMS)
def test_more_rows_than_are_taken(form):
    table = Table({"x": np.zeros(6), "y": np.zeros(6)})
    with pytest.raises(TooLargeError, match="5"):
        read(written(table, form), most=5)
    assert len(read(written(table, form), most=6)) == 6


def test_more_bytes_than_are_taken():
    with pytest.raises(TooLargeError) as refused:
        read_candidates(gzip.compress(b"x,y\n" + b"1,2\n" * 10_000), 100_000, 10_000)
    assert refused.value.field == FIELD


@pytest.mark.parametrize(
    "content",
    [
        votable(XY, table='nrows="100000000000"'),
        votable(XY + '<FIELD name="z" datatype="double" arraysize="100000x100000"/>'),
    ],
)
def test_a_votable_cannot_ask_for_memory(content):
    with pytest.raises(TooLargeError):
        read(content)


def test_a_fits_table_cannot_say_that_it_is_larger():
    file = io.BytesIO()
    Table({"x": [1.0], "y": [2.0]}).write(file, format="fits")
    content = file.getvalue().replace(
        b"NAXIS2  =                    1", b"NAXIS2  =           9999999999"
    )
    with pytest.raises(InputError, match="more rows than the file holds"):
        read(content)


@pytest.mark.parametrize("column", [np.zeros((2, 3)), np.array([[1.0], [2.0]])])
def test_a_column_of_arrays_is_no_position(column):
    file = io.BytesIO()
    Table({"x": column, "y": [1.0, 2.0]}).write(file, format="fits")
    with pytest.raises(InputError, match="not one number"):
        read(file.getvalue())


def test_an_id_that_cannot_be_one():
    with pytest.raises(InputError) as refused:
        read(b"id,x,y\na,1,2\n" + 201 * b"b" + b",1,2\n")
    assert refused.value.field == "candidates[1].id"


_ENDLESS = "10**999999999 deg"


@pytest.mark.parametrize(
    "content",
    [
        votable(f'<FIELD name="ra" datatype="double" unit="{_ENDLESS}"/>' + XY),
        f"# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: x, unit: {_ENDLESS}}}\nx y\n1 2\n".encode(),
        f"# 1 X_IMAGE text [{_ENDLESS}]\n# 2 Y_IMAGE text\n2 3\n".encode(),
    ],
)
def test_a_unit_cannot_keep_the_reader_busy(content):
    if content.startswith(b"<"):
        content = content.replace(b"<TR>", b"<TR><TD>3</TD>")
    assert [(one.x, one.y) for one in read(content)] == [(1.0, 2.0)]
