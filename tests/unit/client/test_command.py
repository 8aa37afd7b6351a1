"""What the command sends that scores an exposure."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from astrotriton.client import Client, InferRequest
from astrotriton.commands.score import score


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def score_as(_: Client, form: str, exposure: Path, request: InferRequest, **files: Any) -> str:
        calls.append((request, files))
        return "<VOTABLE/>"

    monkeypatch.setattr(Client, "score_as", score_as)
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
    assert files == {"psf": psf, "weight": weight}


def test_a_unit_without_a_seeing_is_refused(tmp_path: Path) -> None:
    answer = run(tmp_path, "--seeing-unit", "px")
    assert answer.exit_code != 0
    assert "--seeing-fwhm" in answer.output
