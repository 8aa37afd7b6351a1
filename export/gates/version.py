"""A version while its gates are asked: what one gate measures, the next ones use."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np

from astrotriton.detection.card import ModelCard, UNetModel
from astrotriton.detection.quality import criteria
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.drift import BASELINE_FILE
from astrotriton.detection.quality.golden import GOLDEN_FILE, TOLERANCE, Golden
from astrotriton.detection.quality.labelled import VALIDATION_FILE, ValidationSet
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.scored import Scored
from astrotriton.export import accuracy, digests, onnx_graph
from astrotriton.export.engine import KerasEngine, OnnxEngine, Tiles
from astrotriton.export.gates.suspicion import alternatives
from astrotriton.export.precision import Precision
from astrotriton.export.repository import MODEL_FILE
from astrotriton.export.sandbox import Measured, OpenSandbox, Version, try_out
from astrotriton.settings import ModelConfig

# Fields that another card is tried on, and the average precision that makes it suspicious.
_SUSPECTED_FIELDS = 8
_SUSPICIOUS = 0.1

Calibrate = Callable[[ModelCard, Predict], ModelCard]
Fields = Callable[[], ValidationSet]
GoldenTiles = Callable[[ModelCard], Mapping[str, Tiles]]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a version is tried on, beyond conversion and parity.

    Attributes
    ----------
    validation
        Makes the fields that accuracy and calibration are measured on.
    open_sandbox
        Starts a Triton of its own.
    calibrate
        Fits the card's confidence anew to what the network answers, where the registered one does
        not pass the gate ``calibration``; None leaves it as registered.
    limits
        What is let through.
    """

    validation: Fields
    open_sandbox: OpenSandbox
    calibrate: Calibrate | None = None
    limits: GateLimits


class Quality(NamedTuple):
    """How good a version's detections are.

    Attributes
    ----------
    figures
        Of `detection.quality.figures`, by name.
    champion
        The champion's on the same fields; None without one.
    ece_before, ece_refitted
        The calibration error of the registered confidence, and of the one that was fitted anew;
        None if none was. The figures are of the better one, which is kept.
    """

    figures: dict[str, float]
    champion: dict[str, float] | None
    ece_before: float | None
    ece_refitted: float | None = None


class _Option(NamedTuple):
    """A card with one of several confidences, and what it makes of the fields."""

    card: ModelCard
    scored: list[Scored]
    figures: dict[str, float]

    def rank(self, champion: dict[str, float] | None, limits: GateLimits) -> tuple[int, float]:
        """Less is better: the gates that it fails, and then the calibration error."""
        asked = [
            criteria.accuracy(self.figures, limits),
            criteria.calibration(self.figures, limits, champion=champion),
        ]
        if champion is not None:
            asked.append(criteria.accuracy_change(self.figures, champion, limits))
        ece = self.figures["ece"]
        return sum(not gate.passed for gate in asked), ece if math.isfinite(ece) else math.inf


class VersionUnderTest:
    """A version, its files, and what has been measured of it.

    Parameters
    ----------
    card
        Its card; the confidence in it may be fitted anew.
    files
        By name: its ``model.onnx``, and what else it was published with.
    published
        Whether it was published before. Then it stays as it is, whatever is measured.
    source
        The Keras model that it was converted from.
    tiles
        Makes the golden tiles by kind, from the card.
    precision
        Of the ONNX file.
    champion
        The version to compare with; None without one.
    trial
        What it is tried on; None asks for the graph and for parity alone.
    settings, profile
        How it is to be served.
    on_progress
        Told what comes next, in a few words.
    """

    def __init__(
        self,
        *,
        card: ModelCard,
        files: Mapping[str, bytes],
        published: bool,
        source: KerasEngine,
        tiles: GoldenTiles,
        precision: Precision,
        champion: Version | None,
        trial: Trial | None,
        settings: ModelConfig,
        profile: str,
        on_progress: Progress,
    ) -> None:
        self.card = card
        self.files = dict(files)
        self.source = source
        self.tiles = tiles
        self.precision = precision
        self.champion = champion
        self.trial = trial
        self.on_progress = on_progress
        self._published = published
        self._settings = settings
        self._profile = profile

    @cached_property
    def engine(self) -> OnnxEngine:
        """Runs the ONNX file."""
        return OnnxEngine(self.files[MODEL_FILE], self.card)

    @cached_property
    def fields(self) -> ValidationSet:
        """The fields that accuracy and calibration are measured on."""
        # What travels with the version is what is measured: its pixels are a little rounded.
        found = ValidationSet.from_fits(self._fields_file)
        self.on_progress(f"scoring {len(found.fields)} validation fields")
        return found

    @cached_property
    def quality(self) -> Quality:
        """How good its detections are, once its confidence has been fitted anew if need be."""
        trial, fields = self._tried, self.fields
        theirs = before = refitted = None
        if (champion := self.champion) is not None:
            theirs = _figures_of(champion, fields)
        options = [_Option(self.card, *self._score(fields, self.card))]

        def well_calibrated(figures: dict[str, float]) -> bool:
            return criteria.calibration(figures, trial.limits, champion=theirs).passed

        # What is published stays as it is.
        if not self._published and not well_calibrated(options[0].figures):
            before = options[0].figures["ece"]
            if (same := self._with_champions_confidence()) is not None:
                options.append(_Option(same, *self._score(fields, same)))
            if trial.calibrate is not None and not well_calibrated(options[-1].figures):
                self.on_progress("fitting the confidence to what the network answers")
                fitted = trial.calibrate(self.card, self.engine)
                options.append(_Option(fitted, *self._score(fields, fitted)))
                refitted = options[-1].figures["ece"]
            elif same is None:
                before = None
        kept = min(options, key=lambda one: one.rank(theirs, trial.limits))
        self.card = kept.card
        if not self._published:
            self._pack(self._fields_file, kept.scored, fields.description)
        return Quality(kept.figures, theirs, before, refitted)

    @cached_property
    def least_planes(self) -> tuple[dict[str, float], dict[str, float] | None]:
        """Figures where nothing is sent that may be left out, and the champion's of the same.

        None for no champion, or one that needs more than this version.
        """
        card, champion = self.card, self.champion
        least = self.fields.showing(card.required_planes)
        _, own = self._score(least, card)
        if champion is None or set(champion.card.required_planes) - set(card.required_planes):
            return own, None
        return own, _figures_of(champion, least)

    @cached_property
    def golden_tiles(self) -> Mapping[str, Tiles]:
        """The golden tiles by kind."""
        return self.tiles(self.card)

    @cached_property
    def suspicion(self) -> str | None:
        """What the card seems to say wrongly of the pixels, in words; None if nothing.

        It is what the network finds far more with, if `alternatives` says it otherwise.
        """
        fields = self.fields.fields[:_SUSPECTED_FIELDS]

        def precision(card: ModelCard) -> float:
            return accuracy.evaluate(fields, card, self.engine)["average_precision"]

        found = precision(self.card)
        champion = None if self.champion is None else self.champion.card
        for other in alternatives(self.card, champion):
            if (better := precision(other.card)) >= found + _SUSPICIOUS:
                return (
                    f"a wrong {other.of} is suspected: {other.said}, and with that the average"
                    f" precision on {len(fields)} fields is {better:.3f} in place of {found:.3f};"
                    " correct the card and register the model again"
                )
        return None

    @cached_property
    def tried_out(self) -> Measured:
        """What it costs where it is served, beside the champion.

        Raises
        ------
        ServingError
            If the sandbox does not take it, or answers the golden tile wrongly.
        """
        trial = self._tried
        self.on_progress("trying it in a Triton of its own")
        self.finish()
        own = Version(self.card, self.files)
        return try_out(own, self.champion, trial.open_sandbox, self._settings, self._profile)

    @property
    def limits(self) -> GateLimits:
        """What is let through, of a version that is tried."""
        return self._tried.limits

    @property
    def description(self) -> str | None:
        """What the fields are, in words; None if none were asked for."""
        return self.fields.description if "fields" in self.__dict__ else None

    @property
    def exporter(self) -> str | None:
        """What converted it; None if its file does not say."""
        return onnx_graph.metadata(self.files[MODEL_FILE]).get(onnx_graph.EXPORTER)

    @property
    def warnings(self) -> list[str]:
        """What does not refuse it and should be known, in words."""
        content = self.files[MODEL_FILE]
        changed = onnx_graph.metadata(content).get(onnx_graph.CHANGES)
        told = [f"served is the Keras model {changed}"] if changed else []
        return told + onnx_graph.warnings(content)

    def pack(self, fields: ValidationSet) -> None:
        """Add fields that travel with the version, and how it sees them, to its files."""
        content = fields.showing(self.card.companions).to_fits()
        fields = ValidationSet.from_fits(content)
        scored, _ = self._score(fields, self.card)
        self._pack(content, scored, fields.description)

    def finish(self) -> None:
        """Give the card the digests of the files; a published one has them, and stays as it is."""
        if self._published:
            return
        found = {name: digests.of_bytes(file) for name, file in sorted(self.files.items())}
        self.card = msgspec.structs.replace(self.card, digests=found)

    @property
    def _tried(self) -> Trial:
        if self.trial is None:
            raise ValueError("without a trial, only the graph and parity can be measured")
        return self.trial

    @cached_property
    def _fields_file(self) -> bytes:
        cards = [self.card] if self.champion is None else [self.card, self.champion.card]
        seen = {plane for card in cards for plane in card.companions}
        return self._tried.validation().showing(seen).to_fits()

    def _score(
        self, fields: ValidationSet, card: ModelCard
    ) -> tuple[list[Scored], dict[str, float]]:
        scored = accuracy.score_all(fields.fields, card, self.engine)
        return scored, accuracy.figures_of(scored, fields.fields, card)

    def _with_champions_confidence(self) -> ModelCard | None:
        """The card with the confidence of a champion that is the same network; None if it isn't."""
        champion = self.champion
        if champion is None or GOLDEN_FILE not in champion.files:
            return None
        golden, theirs = Golden.from_npz(champion.files[GOLDEN_FILE]), champion.card
        if theirs.input != self.card.input or theirs.normalisation != self.card.normalisation:
            return None
        answer = self.engine(golden.image)
        same = answer.shape == golden.probability.shape
        if not same or np.abs(answer - golden.probability).max() > TOLERANCE:
            return None
        return msgspec.structs.replace(
            self.card, confidence=theirs.confidence, confidence_tta=theirs.confidence_tta
        )

    def _pack(self, content: bytes, scored: list[Scored], description: str) -> None:
        self.files[VALIDATION_FILE] = content
        # What describes an exposure is mostly its sources: of a classifier's, those that were sent.
        if isinstance(self.card, UNetModel):
            baseline = accuracy.baseline_of(scored, description)
            self.files[BASELINE_FILE] = baseline.to_npz()


def _figures_of(champion: Version, fields: ValidationSet) -> dict[str, float]:
    engine = OnnxEngine(champion.files[MODEL_FILE], champion.card)
    return accuracy.evaluate(fields.fields, champion.card, engine)
