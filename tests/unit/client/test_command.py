"""What the command sends that scores an exposure."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from astrotriton.cli import main
from astrotriton.client import Client, InferRequest, calls
from astrotriton.commands.score import score
from astrotriton.wire.fields import FieldError


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def score_as(_: Client, form: str, exposure: Path, request: InferRequest, **files: Any) -> str:
        assert files.pop("on_progress")
        assert not files.pop("background")
        calls.append((request, files))
        return "<VOTABLE/>"

    monkeypatch.setattr(Client, "score_as", score_as)
    monkeypatch.setattr(httpx, "get", lambda *_, **__: None)
    return calls


def run(folder: Path, *arguments: str) -> Any:
    exposure = folder / "difference.fits"
    exposure.write_bytes(b"SIMPLE  =")
    given = [str(exposure), "--url", "http://127.0.0.1:1", "--format", "votable", *arguments]
    return CliRunner().invoke(score, given)


def test_seeing_psf_and_weights(sent: list[tuple[Any, dict[str, Any]]], tmp_path: Path) -> None:
    psf, weight = tmp_path / "psf.fits", tmp_path / "weight.fits"
    psf.touch()
    weight.touch()
    answer = run(
        tmp_path,
        *("--seeing-fwhm", "1.1", "--seeing-unit", "arcsec"),
        *("--psf", str(psf), "--psf-hdu", "PSF"),
        *("--weight", str(weight), "--weight-hdu", "2", "--weight-type", "variance"),
    )
    assert answer.exit_code == 0, answer.output
    [(request, files)] = sent
    assert request == InferRequest(
        seeing_fwhm=1.1,
        seeing_unit="arcsec",
        psf_hdu="PSF",
        weight_hdu=2,
        weight_type="variance",
    )
    assert files == {"psf": str(psf), "weight": str(weight)}


def test_science_and_template(sent: list[tuple[Any, dict[str, Any]]], tmp_path: Path) -> None:
    science = tmp_path / "science.fits"
    science.touch()
    answer = run(tmp_path, "--science", str(science), "--template-hdu", "REF")
    assert answer.exit_code == 0, answer.output
    assert sent == [(InferRequest(template_hdu="REF"), {"science": str(science)})]


def test_a_unit_without_a_seeing_is_refused(tmp_path: Path) -> None:
    answer = run(tmp_path, "--seeing-unit", "px")
    assert answer.exit_code != 0
    assert "--seeing-fwhm" in answer.output


@pytest.mark.parametrize(
    "command", [["score", "image.fits"], ["check", "drift", "unet_astronomical@champion"]]
)
def test_a_gateway_that_is_not_there_is_told_at_once(command: list[str]) -> None:
    answer = CliRunner().invoke(
        main, command, env={"ASTROTRITON_GATEWAY_URL": "http://127.0.0.1:1"}
    )
    assert answer.exit_code != 0
    assert "no gateway answers at http://127.0.0.1:1" in answer.output
    assert "--url" in answer.output


@pytest.mark.parametrize(
    "command", [["score", "image.fits"], ["check", "drift", "unet_astronomical@champion"]]
)
def test_without_an_address_the_stack_of_this_machine_is_asked(
    command: list[str], tmp_path: Path
) -> None:
    answer = CliRunner().invoke(main, command, env={"ASTROTRITON_DATA": str(tmp_path)})
    assert answer.exit_code != 0
    assert "astrotriton up" in answer.output


def test_several_exposures_need_a_folder(
    sent: list[tuple[Any, dict[str, Any]]], tmp_path: Path
) -> None:
    other = tmp_path / "other.fits"
    other.touch()
    answer = run(tmp_path, str(other))
    assert answer.exit_code != 0
    assert "--out" in answer.output
    assert not sent


def test_regions_are_of_one_exposure(
    sent: list[tuple[Any, dict[str, Any]]], tmp_path: Path
) -> None:
    answer = run(tmp_path, "--out", str(tmp_path / "out"), "--format", "ds9")
    assert answer.exit_code != 0
    assert "csv, ecsv, votable, fits, json" in answer.output
    assert not sent


def test_an_exposure_of_a_store_is_named_and_so_are_its_planes() -> None:
    with httpx.Client(base_url="http://127.0.0.1:1") as client:
        request = calls.infer(
            client,
            "application/json",
            "s3://nights/1.fits",
            InferRequest(tta=True),
            {"mask": "s3://nights/1.mask.fits", "candidates": "s3://nights/1.csv"},
        )
        body = json.loads(request.content)
        assert {name: body[name] for name in ("exposure", "mask", "candidates_table", "tta")} == {
            "exposure": "s3://nights/1.fits",
            "mask": "s3://nights/1.mask.fits",
            "candidates_table": "s3://nights/1.csv",
            "tta": True,
        }
        with pytest.raises(FieldError, match="s3://"):
            calls.infer(client, "", "s3://nights/1.fits", None, {"mask": "1.mask.fits"})
