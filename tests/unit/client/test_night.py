"""What the exposures of a night are, and what its folder keeps."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from astropy.io import fits

from astrotriton.client import NightError
from astrotriton.client.ledger import LEDGER, Ledger, LedgerEntry, reasons
from astrotriton.client.night import arrivals, exposures_of
from astrotriton.client.night_tables import write_table
from astrotriton.gateway.http.formats import FITS, WRITERS, Listing
from astrotriton.wire.detections import ScoredDetection
from tests.unit.gateway.gateway_samples import run


@pytest.fixture
def night(tmp_path: Path) -> Path:
    for name in ("b.fits", "a.fits.gz", "c.npy", "notes.txt", "sub/d.fits"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(found: list[str], night: Path) -> list[str]:
    return [str(Path(one).relative_to(night)) for one in found]


def test_a_folder_stands_for_its_exposures(night: Path) -> None:
    assert names(exposures_of([str(night)]), night) == ["a.fits.gz", "b.fits", "c.npy"]


def test_patterns_lists_and_stores(night: Path) -> None:
    (night / "list").write_text(f"# of tonight\n{night}/c.npy\n\ns3://nights/1.fits\n")
    found = exposures_of([f"{night}/**/*.fits", f"@{night}/list", f"{night}/b.fits"])
    assert found == [
        f"{night}/b.fits",
        f"{night}/sub/d.fits",
        f"{night}/c.npy",
        "s3://nights/1.fits",
    ]


@pytest.mark.parametrize("given", ["missing.fits", "*.fz", "@missing", "sub/empty"])
def test_what_stands_for_nothing_is_named(
    night: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(night)
    (night / "sub/empty").mkdir()
    with pytest.raises(NightError, match=given.strip("@").replace("*", r"\*")):
        exposures_of([given])


def test_tables_that_the_command_wrote_are_no_exposures(night: Path) -> None:
    """One of a whole night, and one of a single exposure as the gateway answers it."""
    answer = run(2)
    (night / "1.json").write_bytes(msgspec.json.encode(answer))
    write_table(night, {"1.fits": "1.json"}, "fits")
    one = Listing(answer.detections, ScoredDetection, answer)
    (night / "one.fits").write_bytes(WRITERS[FITS](one))
    assert (night / "night.fits").exists()
    ours = ["a.fits.gz", "b.fits", "c.npy"]
    assert names(exposures_of([str(night)]), night) == ours
    assert names(exposures_of([f"{night}/*.*"]), night) == ["1.json", *ours, "notes.txt"]
    assert exposures_of([f"{night}/night.fits"]) == []
    # An exposure that somebody else's program says of itself who made it is one.
    made = fits.PrimaryHDU(np.zeros((4, 4), np.float32))
    made.header["CREATOR"] = "astrotriton-like"
    made.writeto(night / "d.fits")
    assert names(exposures_of([str(night)]), night) == [*ours, "d.fits"]


async def test_a_watched_folder_gives_no_table_that_the_command_wrote(
    night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrotriton.client.night._SETTLED", 0.0)
    (night / "1.json").write_bytes(msgspec.json.encode(run(1)))
    write_table(night, {"1.fits": "1.json"}, "fits")
    stop = asyncio.Event()
    found = []
    async for name in arrivals(night, 0.01, stop):
        found.append(name)
        if len(found) == 3:
            stop.set()
    assert names(found, night) == ["a.fits.gz", "b.fits", "c.npy"]


def entry(answer: str, **more: object) -> LedgerEntry:
    return LedgerEntry(exposure="x/1.fits", digest="d", status="done", answer=answer, **more)


def test_a_ledger_knows_what_is_done(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / "1.fits.json").write_text("{}")
    ledger.add(entry("1.fits.json"))
    ledger.add(LedgerEntry(exposure="x/2.fits", digest="e", status="failed", reason="it is none"))
    again = Ledger(tmp_path)
    assert again.answer_to("x/1.fits", "d") == "1.fits.json"
    assert again.answer_to("x/1.fits", "other content") is None
    assert again.answer_to("x/2.fits", "e") is None
    # The file is of the last one alone.
    again.add(msgspec.structs.replace(entry("1.fits.json"), digest="f"))
    assert again.answer_to("x/1.fits", "d") is None
    assert again.answer_to("x/1.fits", "f") == "1.fits.json"


def test_an_answer_that_was_removed_is_asked_for_again(tmp_path: Path) -> None:
    Ledger(tmp_path).add(entry("1.fits.json"))
    assert Ledger(tmp_path).answer_to("x/1.fits", "d") is None


def test_half_a_line_is_forgotten_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    line = msgspec.json.encode(entry("1.fits.json")) + b"\n"
    path.write_bytes(line + line[:20])
    Ledger(tmp_path)
    assert path.read_bytes() == line
    path.write_bytes(line + b"[1]\n")
    with pytest.raises(NightError, match="line 2"):
        Ledger(tmp_path)


def test_the_most_frequent_reason_comes_first() -> None:
    failed = [entry("", reason=reason) for reason in ("a", "b", "b")]
    assert reasons(failed) == [("b", 2), ("a", 1)]
