"""The detections of a night in one file, in each format."""

import csv
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from astropy.table import Table

from astrotriton.client.night_tables import TABLES, TableError, write_table
from tests.unit.gateway.gateway_samples import run

FILES = {"b/2.fits": "2.fits.json", "a/1.fits": "1.fits.json"}


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A folder with the answers to two exposures, of two detections and of one."""
    for number, detections in ((1, 2), (2, 1)):
        answer = run(detections)
        named = msgspec.structs.replace(answer.exposure, name=f"{number}.fits", filter=None)
        first, *rest = answer.detections
        first = msgspec.structs.replace(first, snr=None, flags=("edge", "masked"))
        answer = msgspec.structs.replace(answer, exposure=named, detections=[first, *rest])
        (tmp_path / f"{number}.fits.json").write_bytes(msgspec.json.encode(answer))
    return tmp_path


@pytest.mark.parametrize("form", [name for name in TABLES if name not in ("csv", "json")])
def test_tables_of_astronomers(scored: Path, form: str) -> None:
    path = write_table(scored, FILES, form)
    table = Table.read(path, format={"ecsv": "ascii.ecsv"}.get(form, form))
    assert [str(name) for name in table["exposure"]] == ["1.fits", "1.fits", "2.fits"]
    assert list(table["rank"]) == [1, 2, 1]
    assert str(table["ra"].unit) == "deg"
    assert [bool(np.isfinite(np.ma.filled(one, np.nan))) for one in table["snr"]] == [
        *(False, True, False)
    ]
    assert str(table["flags"][0]) == "edge masked"


def test_rows_alone(scored: Path) -> None:
    with write_table(scored, FILES, "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["exposure"], row["rank"], row["flags"]) for row in rows] == [
        ("1.fits", "1", "edge masked"),
        ("1.fits", "2", rows[1]["flags"]),
        ("2.fits", "1", "edge masked"),
    ]
    assert (rows[0]["snr"], rows[0]["filter"]) == ("", "")
    assert rows[0]["run_id"] == str(run(1).run_id)


def test_json_has_each_as_it_is_looked_up(scored: Path) -> None:
    rows = json.loads(write_table(scored, FILES, "json").read_bytes())
    assert [(row["exposure"]["name"], row["rank"]) for row in rows] == [
        ("1.fits", 1),
        ("1.fits", 2),
        ("2.fits", 1),
    ]


@pytest.mark.parametrize("form", TABLES)
def test_a_night_without_detections_has_a_table_too(tmp_path: Path, form: str) -> None:
    assert write_table(tmp_path, {}, form).stat().st_size > 0


def test_what_cannot_be_written_leaves_nothing(
    scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TableError, match=r"3\.json"):
        write_table(scored, {"c": "3.json"}, "csv")
    monkeypatch.setitem(sys.modules, "astropy.table", None)
    with pytest.raises(TableError, match="pip install astropy"):
        write_table(scored, FILES, "ecsv")
    assert sorted(path.name for path in scored.iterdir()) == ["1.fits.json", "2.fits.json"]
