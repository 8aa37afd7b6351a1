"""A network made a survey's own, on three parts of its exposures: learned, calibrated, compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from astrotriton.adaptation.finetuning import Finetuning, finetune
from astrotriton.adaptation.injection import Injection, hosts_of, inject, pieces
from astrotriton.adaptation.survey import SurveyExposure, UnfitError
from astrotriton.detection.arrays import Flags
from astrotriton.detection.card import UNetModel
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.detection.quality.evaluation import Sample, expected_calibration_error
from astrotriton.detection.quality.labelled import (
    VALIDATION_FILE,
    LabelledField,
    ValidationSet,
)
from astrotriton.detection.scoring.inference import Predict
from astrotriton.training.calibrate import fit_confidence, label, score_field
from astrotriton.training.evaluate import sample_of
from astrotriton.training.network import predicting
from astrotriton.training.weights import CARD_FILE

if TYPE_CHECKING:
    import keras

NETWORK_FILE, FIGURES_FILE = "network.keras", "adapted.json"

Progress = Callable[[str], None]

# Exposures are divided from so many on; of fewer, the pieces are.
_LEAST_EXPOSURES = 8
_LEAST_PIECES, _LEAST_FALSE = 2, 50  # in each part, and false sources that a confidence needs
_PURITY = 0.95
_VALIDATION = 32  # pieces that travel with the version
# What is injected anew into the same exposure so many times: to learn from, to be calibrated on and
# to be compared on.
_TIMES = {"learned": 4, "calibrated": 3, "compared": 2}


@dataclass(frozen=True, slots=True)
class Parts:
    """The fields of each part; no exposure is in two of them, or else no piece of one."""

    learned: list[LabelledField]
    calibrated: list[LabelledField]
    compared: list[LabelledField]


class Figures(msgspec.Struct, frozen=True):
    """How good a network is on the part that neither learning nor calibration has seen.

    Attributes
    ----------
    completeness, purity
        At a confidence of 0.5, of injected transients of SNR 5 and more, and of what was found.
    completeness_at_purity
        Share of those transients that is found where 0.95 of what is found is real; 0 if it never
        is.
    average_precision
        Area under purity against completeness.
    ece
        Expected calibration error.
    sources, transients
        How many were looked at.
    """

    completeness: float
    purity: float
    completeness_at_purity: float
    average_precision: float
    ece: float
    sources: int
    transients: int


@dataclass(frozen=True, slots=True)
class Adapted:
    """A network that is a survey's own.

    Attributes
    ----------
    network, card
        Not registered yet.
    before, after
        The champion and this network on the same fields.
    validation
        Fields of the survey that the gates are to judge it on.
    """

    network: "keras.Model"
    card: UNetModel
    before: Figures
    after: Figures
    validation: ValidationSet

    def metrics(self) -> dict[str, float]:
        """The figures of before and after, by names such as ``adapted/purity_before``.

        One that means nothing, such as the purity of what calls nothing real, is left out.
        """
        return {
            f"adapted/{name}_{when}": value
            for when, figures in (("before", self.before), ("after", self.after))
            for name in _TITLES
            if math.isfinite(value := float(getattr(figures, name)))
        }

    def text(self) -> str:
        """A table of before and after."""
        rows = ["                          before   after"]
        for name, title in _TITLES.items():
            before, after = getattr(self.before, name), getattr(self.after, name)
            rows.append(f"{title:<24}  {before:>6.3f}  {after:>6.3f}")
        rows.append(
            f"{self.after.transients} injected transients, on fields that neither learning nor"
            " calibration has seen"
        )
        return "\n".join(rows)

    def to_json(self) -> bytes:
        """The figures."""
        said = {"before": self.before, "after": self.after}
        return msgspec.json.format(msgspec.json.encode(said), indent=2)


_TITLES = {
    "completeness": "completeness, SNR >= 5",
    "purity": "purity",
    "completeness_at_purity": f"completeness, {_PURITY} pure",
    "average_precision": "average precision",
    "ece": "calibration error",
}


def adapt(
    exposures: Sequence[SurveyExposure],
    network: "keras.Model",
    card: UNetModel,
    folder: Path,
    *,
    how: Finetuning | None = None,
    injection: Injection | None = None,
    on_progress: Progress = print,
) -> Adapted:
    """Fine-tune a champion on a survey's exposures, fit its confidence, and compare.

    Parameters
    ----------
    exposures
        The survey's, measured; their order does not matter.
    network, card
        Of the champion.
    folder
        Keeps what an interrupted run goes on from.
    how, injection
        How it learns, and what is put into the exposures.
    on_progress
        Told what comes next.

    Raises
    ------
    UnfitError
        If the exposures are too few, there is too little in them to fit a confidence to, or the
        network is shown exposures resized.
    """
    how, injection = how or Finetuning(), injection or Injection()
    if card.normalisation.resize != 1.0:
        raise UnfitError(
            f"{card.name} sees exposures resized by {card.normalisation.resize:g}; what is put into"
            " them would be, too: adapt a network of the exposure's own pixels"
        )
    parts = parts_of(exposures, injection, how.seed)
    on_progress(
        f"{len(parts.learned)} fields to learn from, {len(parts.calibrated)} to calibrate on,"
        f" {len(parts.compared)} to compare on"
    )
    before = figures_of(parts.compared, card, predicting(network))
    tuned = finetune(network, card, parts.learned, how, folder, on_progress)
    predict = predicting(tuned)
    names = sorted(one.name for one in exposures)
    survey = f"{len(names)} exposures, {names[0]} to {names[-1]}"
    made = msgspec.structs.replace(
        card,
        version=None,
        digests={},
        trained_at=datetime.now(UTC).replace(microsecond=0),
        training_parameters=card.training_parameters
        | {f"adapted_{name}": value for name, value in asdict(how).items()}
        | {"adapted_exposures": len(names)},
    )
    for tta in (False, True):
        on_progress(f"fitting the confidence{' with test-time augmentation' if tta else ''}")
        said = f"transients put into {survey}"
        fitted = _confidence(parts.calibrated, made, predict, tta=tta, said=said)
        name = "confidence_tta" if tta else "confidence"
        made = msgspec.structs.replace(made, **{name: fitted})
    on_progress("comparing")
    after = figures_of(parts.compared, made, predict)
    chosen = parts.compared[:_VALIDATION]
    validation = ValidationSet(chosen, f"{len(chosen)} fields of {survey}")
    return Adapted(tuned, made, before, after, validation)


def parts_of(exposures: Sequence[SurveyExposure], injection: Injection, seed: int) -> Parts:
    """Divide exposures into three parts, and put transients into them.

    Half of them are learned from. Of few exposures, the pieces of each are divided instead: the
    parts then see the same nights.

    Raises
    ------
    UnfitError
        If they are too few.
    """
    ordered = sorted(exposures, key=lambda one: one.name)
    kinds = ("learned", "calibrated", "learned", "compared")
    whole = len(ordered) >= _LEAST_EXPOSURES
    found: dict[str, list[LabelledField]] = {kind: [] for kind in _TIMES}
    number = 0
    for i, exposure in enumerate(ordered):
        hosts = hosts_of(exposure)
        rng = np.random.default_rng((seed, i))
        if whole:
            kind = kinds[i % len(kinds)]
            for _ in range(_TIMES[kind]):
                found[kind] += pieces(inject(rng, exposure, injection, hosts))
            continue
        for time in range(max(_TIMES.values())):
            made = list(pieces(inject(rng, exposure, injection, hosts)))
            for j, piece in enumerate(made, start=number):
                kind = kinds[j % len(kinds)]
                if time < _TIMES[kind]:
                    found[kind].append(piece)
        number += len(made)
    if missing := [kind for kind in _TIMES if len(found[kind]) < _LEAST_PIECES * _TIMES[kind]]:
        raise UnfitError(
            f"too few exposures for three parts ({len(ordered)}): too little is left to be"
            f" {' or '.join(missing)}; give {_LEAST_EXPOSURES} of 512x512 pixels, or as much in"
            " fewer"
        )
    return Parts(**found)


def figures_of(fields: Sequence[LabelledField], card: UNetModel, predict: Predict) -> Figures:
    """Measure a network with its confidence on fields of known truth."""
    assert card.confidence is not None
    samples = []
    for field in fields:
        measured = score_field(field, card, predict, tta=False)
        truth = field.transients.looked_for(card.polarities)
        samples.append(sample_of(measured, card.confidence, truth))
    sample = Sample.join(samples)
    bright = sample.between(5.0)
    return Figures(
        completeness=sample.completeness(0.5, 5.0),
        purity=sample.purity(0.5),
        completeness_at_purity=_at_purity(sample, bright),
        average_precision=sample.average_precision(),
        ece=expected_calibration_error(sample.score, sample.real),
        sources=len(sample.score),
        transients=len(sample.transients),
    )


def _at_purity(sample: Sample, of: Flags) -> float:
    """Completeness at the lowest score from which on all are pure enough; 0 if none is."""
    purity, _ = sample.precision_recall()
    pure = np.flatnonzero(purity >= _PURITY)
    if len(pure) == 0:
        return 0.0
    falling = np.sort(sample.score)[::-1]
    return sample.completeness(float(falling[pure[-1]]), of=of)


def _confidence(
    fields: Sequence[LabelledField], card: UNetModel, predict: Predict, *, tta: bool, said: str
) -> ConfidenceModel:
    """A confidence fitted to fields, a third of them for each of its steps.

    The pieces of an exposure count as exposures of their own, so what differs from one exposure to
    the next is seen as far as it differs within them.
    """
    sets = [label(fields[i::3], card, predict, tta=tta) for i in range(3)]
    false = sum(int(np.count_nonzero(~one.real)) for one in sets)
    if false < _LEAST_FALSE:
        raise UnfitError(
            f"the exposures hold {false} artefacts beside what was put into them, and a confidence"
            f" is fitted to {_LEAST_FALSE} at least: give more exposures"
        )
    real = np.mean(np.concatenate([one.real for one in sets]))
    return fit_confidence(*sets, fitted_on=f"{said}; {real:.1%} of the sources are real")


def keep(adapted: Adapted, folder: Path) -> None:
    """Write the network, its card, its validation set and the figures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    adapted.network.save(folder / NETWORK_FILE)
    (folder / CARD_FILE).write_bytes(adapted.card.to_json())
    (folder / VALIDATION_FILE).write_bytes(adapted.validation.to_fits())
    (folder / FIGURES_FILE).write_bytes(adapted.to_json())
