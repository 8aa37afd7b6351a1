"""Labels as files."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from astrotriton.adaptation.reading import read_labels
from astrotriton.gateway.handlers.labels import as_csv, as_json
from astrotriton.gateway.http.formats import labels_csv
from astrotriton.wire.labels import StoredLabel


def given(number: int, **more: object) -> StoredLabel:
    label = StoredLabel(
        id=UUID(int=number),
        detection_id=UUID(int=100 + number),
        label="real",
        author="key:a",
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
        comment=None,
        run_id=UUID(int=1),
        exposure="night.fits",
        observed_at=None,
        model_name="unet",
        model_version=3,
        x=10.25,
        y=20.5,
        ra=318.1,
        dec=-66.0,
        snr=12.0,
        confidence=0.75,
        threshold=0.5,
        is_real=True,
    )
    return msgspec.structs.replace(label, **more)


async def pages(*found: list[StoredLabel]):
    for one in found:
        yield one


async def joined(chunks) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def test_a_label_is_a_row_and_what_is_unknown_is_empty():
    content = labels_csv([given(1, comment='a "b",\nc'), given(2, label=None, ra=None, dec=None)])
    one, other = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert list(one) == list(StoredLabel.__struct_fields__)
    assert (one["label"], one["x"], one["is_real"]) == ("real", "10.25", "True")
    assert one["created_at"] == "2026-11-24T00:00:00Z"
    assert one["comment"] == 'a "b",\nc'
    assert (other["label"], other["ra"]) == ("", "")


async def test_pages_make_one_file():
    found = [given(1), given(2)], [given(3)]
    rows = list(csv.DictReader(io.StringIO((await joined(as_csv(pages(*found)))).decode())))
    assert [row["id"] for row in rows] == [str(UUID(int=number)) for number in (1, 2, 3)]
    read = json.loads(await joined(as_json(pages(*found))))
    assert read == [msgspec.to_builtins(given(number)) for number in (1, 2, 3)]
    assert json.loads(await joined(as_json(pages([])))) == []
    assert (await joined(as_csv(pages([])))).decode().strip().split(",")[0] == "id"


def test_the_file_is_what_adapting_to_a_survey_takes(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_bytes(labels_csv([given(1), given(2, label="artefact"), given(3, label="unsure")]))
    (first, second), *rest = read_labels(path).values()
    assert (first["x"], first["ra"], first["real"]) == (10.25, 318.1, True)
    assert not second["real"]
    assert rest == []
