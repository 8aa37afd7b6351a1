"""The figures and the table of an evaluation."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from astrotriton.detection.quality.evaluation import Sample, reliability
from astrotriton.training.evaluate import FALSE_POSITIVES, Evaluation, threshold_of_false_positives

_SNR_EDGES = np.arange(3.0, 13.0)


def write_figures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write completeness, precision-recall and reliability as PNG; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (
        ("completeness", _completeness),
        ("precision_recall", _precision_recall),
        ("reliability", _reliability),
    ):
        figure = Figure(figsize=(6.4, 4.8), dpi=120)
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(), evaluation)
        figure.tight_layout()
        path = folder / f"{name}.png"
        figure.savefig(path)
        written.append(path)
    return written


def _completeness(axes: Axes, evaluation: Evaluation) -> None:
    noise = evaluation.noise
    middles = (_SNR_EDGES[:-1] + _SNR_EDGES[1:]) / 2

    def draw(sample: Sample, label: str, style: str) -> None:
        at = threshold_of_false_positives(sample, FALSE_POSITIVES)
        found = [sample.completeness(at, low, low + 1.0) for low in _SNR_EDGES[:-1]]
        axes.plot(middles, found, style, label=label)

    draw(noise.plain, "astrotriton", "o-")
    draw(noise.matched_filter, "matched filter of the true width", "k--")
    draw(noise.best_sep, "SEP, PSF kernel", "s-")
    axes.set(
        xlabel="true signal-to-noise ratio",
        ylabel="completeness",
        title=f"Noise alone, at {FALSE_POSITIVES} false positives a tile",
        ylim=(0, 1.02),
    )
    axes.legend()


def _precision_recall(axes: Axes, evaluation: Evaluation) -> None:
    mixed = evaluation.mixed
    samples = {"astrotriton": mixed.plain, "SEP, PSF kernel, best threshold": mixed.best_sep}
    if mixed.tta is not None:
        samples["astrotriton, with TTA"] = mixed.tta
    for label, sample in samples.items():
        precision, recall = sample.precision_recall()
        axes.plot(recall, precision, label=f"{label} (AP {sample.average_precision():.2f})")
    axes.set(
        xlabel="completeness", ylabel="purity", title="With artefacts", xlim=(0, 1), ylim=(0, 1.02)
    )
    axes.legend(loc="lower left")


def _reliability(axes: Axes, evaluation: Evaluation) -> None:
    axes.plot([0, 1], [0, 1], "k--", linewidth=1)
    for label, sample in (
        ("confidence", evaluation.mixed.plain),
        ("network alone", evaluation.mixed.network),
    ):
        said, happened, count = reliability(sample.score, sample.real)
        error = np.sqrt(happened * (1 - happened) / count)
        axes.errorbar(said, happened, error, fmt="o-", label=label)
    axes.set(xlabel="said", ylabel="share that is real", title="Reliability")
    axes.legend()


def table(figures: dict[str, object]) -> str:
    """The figures of an evaluation as Markdown."""
    lines = ["| figure | value |", "|---|---|"]
    lines += [
        f"| {name} | {_show(value)} |" for name, value in figures.items() if name != "classes"
    ]
    classes = figures["classes"]
    assert isinstance(classes, dict)
    lines += [
        "",
        "| artefact | average precision | SEP's | completeness | purity there | SEP's |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name.replace('_', ' ')} | {one['average_precision']:.3f} |"
        f" {one['average_precision_sep']:.3f} | {one['completeness']:.3f} |"
        f" {one['purity']:.3f} | {one['purity_sep']:.3f} |"
        for name, one in classes.items()
    ]
    return "\n".join(lines)


def _show(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
