"""A version while its gates are asked: what one gate measures, the next ones use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec

from astrotriton.detection.card import UNetModel
from astrotriton.detection.quality import criteria
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.drift import BASELINE_FILE
from astrotriton.detection.quality.labelled import VALIDATION_FILE, ValidationSet
from astrotriton.detection.scoring.scored import Scored
from astrotriton.detection.scoring.tiled_inference import Predict
from astrotriton.export import accuracy, digests
from astrotriton.export.engine import KerasEngine, OnnxEngine, Tiles
from astrotriton.export.precision import Precision
from astrotriton.export.repository import MODEL_FILE
from astrotriton.export.sandbox import Measured, OpenSandbox, Version, try_out
from astrotriton.settings import ModelConfig

Calibrate = Callable[[UNetModel, Predict], UNetModel]
Fields = Callable[[], ValidationSet]
GoldenTiles = Callable[[UNetModel], Mapping[str, Tiles]]
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
    ece_before
        The calibration error before the confidence was fitted anew; None if it was not.
    """

    figures: dict[str, float]
    champion: dict[str, float] | None
    ece_before: float | None


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
        card: UNetModel,
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
        theirs = before = None
        if (champion := self.champion) is not None:
            engine = OnnxEngine(champion.files[MODEL_FILE], champion.card)
            theirs = accuracy.evaluate(fields.fields, champion.card, engine)
        scored, figures = self._score(fields)
        # What is published stays as it is.
        if trial.calibrate is not None and not self._published:
            judged = criteria.calibration(figures, trial.limits, champion=theirs)
            if not judged.passed:
                self.on_progress("fitting the confidence to what the network answers")
                before = figures["ece"]
                self.card = trial.calibrate(self.card, self.engine)
                scored, figures = self._score(fields)
        if not self._published:
            self._pack(self._fields_file, scored, fields.description)
        return Quality(figures, theirs, before)

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

    def pack(self, fields: ValidationSet) -> None:
        """Add fields that travel with the version, and how it sees them, to its files."""
        content = fields.to_fits()
        fields = ValidationSet.from_fits(content)
        scored, _ = self._score(fields)
        self._pack(content, scored, fields.description)

    def finish(self) -> None:
        """Give the card the digests of the files."""
        found = {name: digests.of_bytes(file) for name, file in self.files.items()}
        self.card = msgspec.structs.replace(self.card, digests=found)

    @property
    def _tried(self) -> Trial:
        if self.trial is None:
            raise ValueError("without a trial, only the graph and parity can be measured")
        return self.trial

    @cached_property
    def _fields_file(self) -> bytes:
        return self._tried.validation().to_fits()

    def _score(self, fields: ValidationSet) -> tuple[list[Scored], dict[str, float]]:
        scored = accuracy.score_all(fields.fields, self.card, self.engine)
        return scored, accuracy.figures_of(scored, fields.fields, self.card)

    def _pack(self, content: bytes, scored: list[Scored], description: str) -> None:
        baseline = accuracy.baseline_of(scored, description)
        self.files |= {VALIDATION_FILE: content, BASELINE_FILE: baseline.to_npz()}
