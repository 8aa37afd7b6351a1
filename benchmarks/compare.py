"""Networks on real alerts of ZTF and Rubin, beside the surveys' own scores.

``python -m benchmarks.compare STAMPS [--network NAME=FOLDER ...] [--out FOLDER]`` scores the
candidate of each alert with the reference network, with the difference alone and, where the card
names science and template, with all three images; and likewise with each further network, a folder
as `astrotriton train --out` or `astrotriton adapt --out` leaves it. STAMPS has ``ztf.csv`` and
``ztf.npz`` (arrays ``science``, ``template``, ``difference`` of 63x63 pixels, the candidate in the
middle), ``rubin.csv`` and ``rubin/<alert>.fits.gz``.

Nobody labelled these alerts. What is certain is that a known asteroid is real. ZTF's deep score is
a machine's: above 0.9 it is called real here, below 0.3 bogus, and between these nothing. So
figures against it say how far two judges agree, and no more. Nothing may be fitted to them.
"""

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from astropy.io import fits
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from astrotriton.adaptation.adapt import NETWORK_FILE
from astrotriton.detection.arrays import Flags, Image, Values
from astrotriton.detection.card import ModelCard
from astrotriton.detection.image.exposure import Exposure, mute_astropy
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.score import finish, prepare_exposure
from astrotriton.training.network import predicting
from astrotriton.training.weights import WEIGHTS, load_card, load_network
from astrotriton.wire.detections import Candidate
from astrotriton.wire.exposures import COMPANIONS, Companion

if TYPE_CHECKING:
    import keras

_REAL, _BOGUS = 0.9, 0.3  # of the deep score
_SNR_EDGES = (0.0, 10.0, 20.0, 40.0, np.inf)
_ON_A_STAR, _FREE = 0.5, 5.0  # arcsec to the nearest source of ZTF's template
_ALONE, _TOGETHER = "difference alone", "three images"


@dataclass(frozen=True, slots=True)
class Alert:
    """The images of an alert, float32 (H, W), and where its candidate is, 0-based pixels."""

    difference: Image
    companions: Mapping[Companion, Image]
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Survey:
    """Alerts, and what is known of each.

    Attributes
    ----------
    alerts
        N of them.
    table
        The columns of its table as they are written, by name.
    asteroid
        bool (N,): a known asteroid is there, so that it is real.
    """

    alerts: Sequence[Alert]
    table: Mapping[str, Sequence[str]]
    asteroid: Flags

    def column(self, name: str) -> Values:
        """Numbers, float64 (N,); NaN where nothing is written."""
        return np.array([float(value or "nan") for value in self.table[name]])


@dataclass(slots=True)
class Judge:
    """One way of scoring: its name, and the scores of either survey's alerts."""

    name: str
    ztf: Values
    rubin: Values = field(default_factory=lambda: np.empty(0))


def read_ztf(folder: Path) -> Survey:
    """ZTF's alerts; a difference that ZTF turned round, so that it is positive, is turned back."""
    table = _table(folder / "ztf.csv")
    images = np.load(folder / "ztf.npz")
    alerts = []
    for i, positive in enumerate(table["positive"]):
        difference = np.asarray(images["difference"][i], np.float32)
        y, x = (side // 2 for side in difference.shape)
        if positive == "0" and difference[y, x] > 0.0:
            difference = -difference
        companions = {name: np.asarray(images[name][i], np.float32) for name in COMPANIONS}
        alerts.append(Alert(difference, companions, float(x), float(y)))
    survey = Survey(alerts, table, np.zeros(len(alerts), bool))
    distance = survey.column("ssdistnr")
    return Survey(alerts, table, (distance >= 0.0) & (distance < 1.0))


def read_rubin(folder: Path) -> Survey:
    """Rubin's alerts."""
    table = _table(folder / "rubin.csv")
    alerts = []
    for i, name in enumerate(table["alert"]):
        content = gzip.decompress((folder / "rubin" / f"{name}.fits.gz").read_bytes())
        with fits.open(io.BytesIO(content)) as hdus:
            images = {
                one: np.asarray(hdus[one.upper()].data, np.float32)
                for one in ("difference", *COMPANIONS)
            }
        x, y = float(table["x"][i]), float(table["y"][i])
        difference = images.pop("difference")
        alerts.append(Alert(difference, images, x, y))  # type: ignore[arg-type]
    return Survey(alerts, table, np.array([value != "" for value in table["sso"]]))


def _table(path: Path) -> dict[str, list[str]]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return {name: [row[name] for row in rows] for name in rows[0]}


def scored(survey: Survey, card: ModelCard, predict: Predict, *, together: bool) -> Values:
    """The confidence of each alert's candidate, float64 (N,); 0 where it is not scored."""
    found = []
    for alert in survey.alerts:
        exposure = Exposure.from_array(alert.difference)
        if together:
            for name, image in alert.companions.items():
                exposure.companions[name] = Exposure.from_array(image)
        candidate = Candidate(id="alert", x=alert.x, y=alert.y)
        tiled = prepare_exposure(exposure, card, [candidate])
        result = finish(tiled.answer(predict, tiled.views))
        here = (one.confidence for one in result.detections if one.candidate_id == "alert")
        found.append(next(here) or 0.0)
    return np.array(found)


def judges_of(name: str, folder: Path, ztf: Survey, rubin: Survey) -> Iterator[Judge]:
    """A network in a folder, with the difference alone and, where it can, with all images."""
    card, predict = load_card(folder), predicting(_network(folder))
    for together in (False, True) if card.companions else (False,):
        if not together and card.required_planes:
            continue
        kind = _TOGETHER if together else _ALONE
        yield Judge(
            f"{name}, {kind}",
            scored(ztf, card, predict, together=together),
            scored(rubin, card, predict, together=together),
        )


def _network(folder: Path) -> "keras.Model":
    if not (adapted := folder / NETWORK_FILE).exists():
        return load_network(folder)
    import keras  # slow to import

    return keras.models.load_model(adapted, compile=False)


def lines_of(judge: Judge, ztf: Survey, rubin: Survey, *, least: float) -> dict[str, float]:
    """The figures of one judge, by what they are.

    Parameters
    ----------
    least
        From which score on it calls an alert real.
    """
    deep, snr, positive = (ztf.column(name) for name in ("deep_score", "snr", "positive"))
    real, bogus = deep > _REAL, deep < _BOGUS
    called = judge.ztf >= least
    found: dict[str, float] = {}
    for sign, name in ((1.0, "positive"), (0.0, "negative")):
        judged = (positive == sign) & (real | bogus)
        found[f"area under the ROC curve, {name}"] = float(
            roc_auc_score(real[judged], judge.ztf[judged])
        )
    judged = real | bogus
    found["average precision"] = float(average_precision_score(real[judged], judge.ztf[judged]))
    for low, high in pairwise(_SNR_EDGES):
        inside = real & (snr >= low) & (snr < high)
        bounds = f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        found[f"called real of the sure ones, SNR {bounds}"] = _share(called[inside])
    nearest = ztf.column("distnr")
    found["the same on a star or nucleus"] = _share(called[real & (nearest < _ON_A_STAR)])
    found["the same where the template is empty"] = _share(called[real & (nearest > _FREE)])
    found["called real of the bogus ones"] = _share(called[bogus])
    found["called real of ZTF's asteroids"] = _share(called[ztf.asteroid])
    if len(judge.rubin):
        found["called real of Rubin's asteroids"] = _share(judge.rubin[rubin.asteroid] >= least)
    return found


def _share(called: Flags) -> float:
    return float(np.mean(called)) if len(called) else np.nan


def table_of(judges: Sequence[Judge], ztf: Survey, rubin: Survey) -> str:
    """A table in Markdown, a column for each judge."""
    columns = [lines_of(one, ztf, rubin, least=0.5) for one in judges]
    rows = [
        f"| of {len(ztf.alerts)} alerts of ZTF and {len(rubin.alerts)} of Rubin |"
        + "".join(f" {one.name} |" for one in judges),
        "|---" * (1 + len(judges)) + "|",
    ]
    for name in columns[0]:
        values = (column.get(name, np.nan) for column in columns)
        cells = ("" if np.isnan(value) else f"{value:.3f}" for value in values)
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def draw(judges: Sequence[Judge], ztf: Survey, path: Path) -> None:
    """Purity against completeness, with the deep score for truth."""
    from matplotlib.figure import Figure

    deep = ztf.column("deep_score")
    judged = (deep > _REAL) | (deep < _BOGUS)
    figure = Figure(figsize=(6.0, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for one in judges:
        purity, completeness, _ = precision_recall_curve(deep[judged] > _REAL, one.ztf[judged])
        axes.plot(completeness, purity, label=one.name)
    axes.set(xlabel="completeness", ylabel="purity", xlim=(0, 1.01), ylim=(0.78, 1.005))
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(path)


def _named(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Path]:
    found = {}
    for one in given:
        name, is_named, folder = one.partition("=")
        if not is_named or not Path(folder).is_dir():
            raise click.BadParameter(f"{one}: write NAME=FOLDER")
        found[name] = Path(folder)
    return found


@click.command()
@click.argument("stamps", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--network", "networks", multiple=True, callback=_named, metavar="NAME=FOLDER")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path))
def main(stamps: Path, networks: dict[str, Path], out: Path | None) -> None:
    """Score the alerts in STAMPS with each network, and print the table; OUT gets a figure, too."""
    mute_astropy()
    ztf, rubin = read_ztf(stamps), read_rubin(stamps)
    judges = [
        judge
        for name, folder in ({"reference": WEIGHTS} | networks).items()
        for judge in judges_of(name, folder, ztf, rubin)
    ]
    judges.append(Judge("ZTF's rb", np.nan_to_num(ztf.column("rb"))))
    table = table_of(judges, ztf, rubin)
    click.echo(table)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "compare.md").write_text(table + "\n")
        draw(judges, ztf, out / "compare.png")


if __name__ == "__main__":
    main()
