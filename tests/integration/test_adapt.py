"""The network made a survey's own, by the command, as an astronomer runs it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from astropy.io import fits

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import ARTEFACTS

pytestmark = pytest.mark.export

EXPOSURES = 8
# Sharper and more crowded than most of what the network has learned from.
RECIPE = replace(
    ARTEFACTS, fwhm=(1.5, 1.9), stars=(600, 600), resampled=1.0, transients=(0, 2), gaps=(0, 0)
)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exposures with their epochs, as one file each; one more is no difference."""
    folder = tmp_path_factory.mktemp("night")
    for i in range(EXPOSURES + 1):
        field = simulate(9_200_000 + i, RECIPE)
        image = field.science if i == EXPOSURES else field.difference
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="DIFFERENCE")]
        hdus += [fits.ImageHDU(field.science, name="SCIENCE")]
        hdus += [fits.ImageHDU(field.template, name="TEMPLATE")]
        hdus[1].header["FWHM"] = (field.fwhm, "pixels")
        fits.HDUList(hdus).writeto(folder / f"e{i}.fits")
    return folder


def adapt(night: Path, out: Path, *further: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "astrotriton", "adapt", str(night), "--out", str(out)]
    command += ["--hdu", "DIFFERENCE", "--science-hdu", "SCIENCE", "--template-hdu", "TEMPLATE"]
    return subprocess.run([*command, *further], capture_output=True, text=True, check=False)


def test_a_night_makes_a_network_with_its_card_and_its_truth(night: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    ended = adapt(night, out, "--epochs", "1")
    assert ended.returncode == 0, ended.stderr
    assert "e8.fits does not look like a difference" in ended.stderr
    assert "1 of 9 exposures are left out" in ended.stderr
    assert "average precision" in ended.stdout
    card = ModelCard.from_json((out / "card.json").read_bytes())
    assert card.confidence is not None
    assert card.confidence_tta is not None
    assert "8 exposures" in card.confidence.fitted_on
    validation = ValidationSet.from_fits((out / "validation.fits").read_bytes())
    assert sum(len(one.transients) for one in validation.fields) > 0
    assert set(validation.fields[0].companions) == {"science", "template"}
    figures = json.loads((out / "adapted.json").read_text())
    assert figures["after"]["transients"] == figures["before"]["transients"] > 0


def test_too_few_exposures_are_refused(night: Path, tmp_path: Path) -> None:
    ended = adapt(night / "e0.fits", tmp_path / "mine")
    assert ended.returncode == 1
    assert "too few exposures for three parts (1)" in ended.stderr
    assert not (tmp_path / "mine" / "network.keras").exists()
