"""The model card: what users of a model version need and its weights don't say."""

import difflib
import re
import typing
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Self

import msgspec

from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.wire.exposures import COMPANIONS, Companion

Check = Callable[[bool, str], None]
"""Takes whether something is as it should be, and the problem in words if it is not."""

#: What a channel may show: an image, or whether one was sent, as a constant 1 or 0.
Channel = Literal["difference", "science", "template", "has_science", "has_template"]

# Fields that cards did not have at first. They are left out where they say nothing, so that a card
# keeps the digest that it had. For the same reason a family's own fields come before this one.
_LATER = ("activation", "classes", "positive_class", "optional_planes", "plane_normalisations")
_AFTER_OWN = "nms_radius"
_UNKNOWN = re.compile(
    r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$(?P<at>[^`]*)`)?"
)


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input or output as it is on the wire to Triton.

    ``shape`` is NCHW; -1 is a dimension that the caller chooses, which only the batch may be. One
    number for an image is an image of one pixel.
    """

    name: str
    dtype: Literal["FP32"] = "FP32"
    shape: tuple[int, int, int, int]


class Domain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network was trained on, so that what lies outside is told.

    Attributes
    ----------
    seeing_fwhm
        Least and largest width of point sources, pixels of the exposure.
    snr
        Least and largest signal-to-noise ratio of a source.
    """

    seeing_fwhm: tuple[float, float]
    snr: tuple[float, float]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of any family of networks, checked when it is made.

    The field ``kind`` of a written card says the family: ``unet``, which it is where a card does
    not say, or ``stamps``.

    Attributes
    ----------
    name
        Name in MLflow and in Triton.
    version
        MLflow's version, which is Triton's too; None before the model is registered.
    trained_at
        When training ended.
    training_metrics, training_parameters
        Figures that training reported, and the settings it ran with, by name.
    input, output
        What Triton takes and gives.
    polarities
        What the network looks for: 1, sources that brighten, or -1, that fade. A U-Net has a
        channel for each, the first of its output, and a candidate is as probable as the likelier of
        them says.
    activation
        What export makes probabilities of the Keras model's answer with, where the model answers
        logits: the logistic function (``sigmoid``) of each channel, or ``softmax`` over all of
        them; ``none`` where it answers probabilities itself.
    classes, positive_class
        What the channels of the Keras model's answer stand for, where each is a class of its own,
        and the class whose probability is served, the one channel of ``output``. Empty and None:
        the channels are served as they are.
    further_outputs
        Shapes of what else it gives, by name, with -1 for what is dynamic: for those who ask Triton
        themselves. Export fills it in.
    normalisation
        How an exposure is prepared for the network.
    planes
        What each channel of the input shows: ``difference``, ``science`` or ``template``, an image;
        ``has_science`` or ``has_template``, 1 everywhere if that image was sent and 0 if not. Of a
        U-Net's card that does not say it, every channel shows the difference.
    optional_planes
        Those of ``science`` and ``template`` that a request may leave out. All pixels of a plane
        that was left out are 0. The others that ``planes`` has are required.
    plane_normalisations
        How the science and the template image are prepared for the network, by plane. Each has a
        background and a noise of its own.
    nms_radius
        Two sources closer than this are one, pixels of the exposure.
    domain
        What the network was trained on; None: not known, so nothing is told.
    confidence, confidence_tta
        How probability and quality become a confidence, from one view of an image or from all
        eight; None for a model never calibrated, whose confidence is then its probability, and
        flagged.
    digests
        SHA-256 of the files the version consists of, by file name.

    Raises
    ------
    CardError
        If the fields contradict each other; every problem is named.
    """

    name: str
    version: int | None = None
    trained_at: datetime
    training_metrics: dict[str, float] = {}
    training_parameters: dict[str, int | float] = {}
    input: TensorSpec
    output: TensorSpec
    polarities: tuple[Literal[1, -1], ...] = (1,)
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    classes: tuple[str, ...] = ()
    positive_class: str | None = None
    further_outputs: dict[str, tuple[int, ...]] = {}
    normalisation: Normalisation = Normalisation()
    planes: tuple[Channel, ...] = ("difference",)
    optional_planes: tuple[Companion, ...] = ()
    plane_normalisations: dict[Companion, Normalisation] = {}
    nms_radius: float = 4.0
    domain: Domain | None = None
    confidence: ConfidenceModel | None = None
    confidence_tta: ConfidenceModel | None = None
    digests: dict[str, str] = {}

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise CardError(f"card of {self.name!r}: " + "; ".join(problems))

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width of an image that the network takes, pixels."""
        return self.input.shape[2], self.input.shape[3]

    @property
    def answer_size(self) -> tuple[int, int]:
        """Height and width of what an image is answered for, pixels: its middle, if smaller."""
        return self.output.shape[2], self.output.shape[3]

    @property
    def own_fields(self) -> dict[str, Any]:
        """What only cards of its family say, by name."""
        common = ModelCard.__struct_fields__
        return {one: getattr(self, one) for one in self.__struct_fields__ if one not in common}

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What each channel of the input shows, as many as there are."""
        count = self.input.shape[1]
        return self.planes * count if len(self.planes) == 1 else self.planes

    @property
    def companions(self) -> tuple[Companion, ...]:
        """The images beside the difference that it uses."""
        return tuple(one for one in COMPANIONS if {one, f"has_{one}"}.intersection(self.planes))

    @property
    def required_planes(self) -> tuple[Companion, ...]:
        """The images beside the difference that it needs."""
        return tuple(one for one in self.companions if one not in self.optional_planes)

    def calibrated_share(self, views: int) -> float | None:
        """The share of real sources that `confidence_for` was calibrated on; None if unknown."""
        model = self.confidence_for(views)
        return None if model is None else model.prevalence

    def confidence_for(self, views: int) -> ConfidenceModel | None:
        """The confidence model for so many views of each image."""
        return self.confidence_tta if views > 1 else self.confidence

    def problems(self) -> list[str]:
        """Everything that is wrong with this card, in words; empty if nothing is."""
        found: list[str] = []

        def check(good: bool, problem: str) -> None:
            if not good and problem not in found:
                found.append(problem)

        check(bool(self.name), "name is empty")
        check(
            self.version is None or self.version >= 1, f"version is {self.version}, not at least 1"
        )
        for role, spec in (("input", self.input), ("output", self.output)):
            batch, channels, height, width = spec.shape
            check(
                batch == -1,
                f"{role} has a fixed batch of {batch}: export it with a dynamic one (-1)",
            )
            check(channels >= 1, f"{role} has {channels} channels")
            check(
                height >= 1 and width >= 1, f"{role} tiles are {height}x{width}: give a fixed size"
            )
        check(
            len(set(self.classes)) == len(self.classes) != 1,
            f"classes are {list(self.classes)}: name each of at least two, or none",
        )
        check(
            (self.positive_class in self.classes) if self.classes else not self.positive_class,
            f"positive_class is {self.positive_class!r}, classes are {list(self.classes)}: name the"
            " class whose probability is served, of these",
        )
        check(
            self.activation != "softmax" or bool(self.classes),
            "activation is softmax, which needs classes: name them, and the positive_class",
        )
        self._check_planes(check)
        self.check_family(check)
        for name in ("seeing_fwhm", "snr"):
            low, high = (0.0, 1.0) if self.domain is None else getattr(self.domain, name)
            check(0.0 <= low < high, f"domain's {name} is {low} to {high}, which is no range")
        check(self.nms_radius > 0.0, f"nms_radius is {self.nms_radius}, not above 0")
        check(
            self.normalisation.mesh >= 8,
            f"background mesh is {self.normalisation.mesh} px, under 8",
        )
        check(self.normalisation.softening > 0.0, "normalisation softening is not above 0")
        check(self.normalisation.clip > 0.0, "normalisation clip is not above 0")
        return found

    def _check_planes(self, check: Check) -> None:
        channels, shown = self.input.shape[1], set(self.planes)
        unnamed = self.planes == ("difference",) and isinstance(self, UNetModel)
        check(
            len(self.planes) == channels or unnamed,
            f"planes are {list(self.planes)}, the input has {channels} channels: name what each of"
            " them shows, as science, template, difference",
        )
        check(
            "difference" in shown,
            f"planes are {list(self.planes)}: one of them has to be the difference, which is the"
            " exposure",
        )
        for one in COMPANIONS:
            optional = one in self.optional_planes
            check(
                one in shown or (f"has_{one}" not in shown and not optional),
                f"has_{one} or optional_planes speaks of the {one} image, which is none of the"
                " planes: add it to them, or leave this out",
            )
            check(
                optional or f"has_{one}" not in shown,
                f"planes have has_{one}, and {one} is required, so that it would always be 1: add"
                f" {one} to optional_planes, or leave has_{one} out",
            )
            how = self.plane_normalisations.get(one)
            check(
                (one in shown) == (how is not None) or not self._normalises,
                f"plane_normalisations has {sorted(self.plane_normalisations)}, planes are"
                f" {list(self.planes)}: say how each of science and template that it shows is"
                " normalised",
            )
            if how is not None:
                check(
                    how.resize == self.normalisation.resize,
                    f"plane_normalisations.{one}.resize is {how.resize}, that of the difference"
                    f" {self.normalisation.resize}: give both the same",
                )
                check(
                    how.mesh >= 8 and how.softening > 0.0 and how.clip > 0.0,
                    f"plane_normalisations.{one} needs a mesh of at least 8 px, and softening and"
                    " clip above 0",
                )

    @property
    def _normalises(self) -> bool:
        """Whether its inputs are normalised, and are not pixels as they are."""
        return True

    def check_family(self, check: Check) -> None:
        """Check what is true of cards of its family alone."""
        raise NotImplementedError

    def to_json(self) -> bytes:
        """The card as indented JSON; a U-Net's does not say its kind, as none did at first."""
        said = msgspec.to_builtins(self)
        for field in msgspec.structs.fields(self):
            if field.name in _LATER and getattr(self, field.name) in (field.default, {}):
                del said[field.name]
        own = {name: said.pop(name) for name in self.own_fields}
        ordered: dict[str, Any] = {}
        for name, value in said.items():
            if name == _AFTER_OWN:
                ordered |= own
            ordered[name] = value
        if isinstance(self, UNetModel):
            del ordered["kind"]
            if self.planes == ("difference",):
                del ordered["planes"]
        return msgspec.json.format(msgspec.json.encode(ordered))

    @classmethod
    def from_json(cls, content: bytes | str) -> Self:
        """Read a card of the family that it says it is of, or of this one.

        Raises
        ------
        CardError
            If it is not JSON, lacks a field, has an unknown one, contradicts itself, or is of
            another family than the one asked for.
        """
        try:
            kind = msgspec.json.decode(content, type=_Kind).kind
        except msgspec.DecodeError as error:
            raise CardError(f"not a model card: {error}") from error
        family = _FAMILIES.get(kind) if isinstance(kind, str) else None
        if family is None:
            known = " or ".join(map(repr, _FAMILIES))
            raise CardError(f"not a model card: kind is {kind!r}: say {known}")
        if not issubclass(family, cls):
            raise CardError(f"the card's kind is {kind!r}, another one than is read here")
        try:
            return msgspec.json.decode(content, type=family)
        except msgspec.DecodeError as error:
            raise CardError(f"not a model card: {_nearest_known(str(error), family)}") from error


class UNetModel(
    ModelCard,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="unet",
):
    """A version of a U-Net, which answers every pixel of a tile.

    Attributes
    ----------
    overlap
        Pixels, as the network sees them, that the answers of neighbouring tiles share.
    threshold
        Least probability of a pixel that can be a detection's peak.
    """

    overlap: int = 96
    threshold: float = 0.5

    @property
    def footprint(self) -> tuple[tuple[int, int], tuple[int, int], int]:
        """`tile_size`, `answer_size` and ``overlap`` in pixels of the exposure."""
        height, width, *answered, overlap = (
            round(side / self.normalisation.resize) for side in self._sides
        )
        return (height, width), (answered[0], answered[1]), overlap

    @property
    def _sides(self) -> tuple[int, ...]:
        return (*self.tile_size, *self.answer_size, self.overlap)

    def check_family(self, check: Check) -> None:
        """See `ModelCard`."""
        check(
            0 < len(set(self.polarities)) == len(self.polarities) <= self.output.shape[1],
            f"polarities are {list(self.polarities)}: name 1, -1 or both, each once, for at most"
            f" the {self.output.shape[1]} channels of the output",
        )
        check(
            not self.classes or self.output.shape[1] == 1,
            f"output has {self.output.shape[1]} channels; of several classes one is served: give it"
            " 1",
        )
        check(
            all(
                seen >= answered and (seen - answered) % 2 == 0
                for seen, answered in zip(self.tile_size, self.answer_size, strict=True)
            ),
            f"output tiles are {self.answer_size}, which is not the middle of input tiles of"
            f" {self.tile_size}",
        )
        check(
            0 <= self.overlap < min(self.answer_size),
            f"overlap of {self.overlap} px does not fit output tiles of {self.answer_size}",
        )
        check(0.0 < self.threshold < 1.0, f"threshold is {self.threshold}, not between 0 and 1")
        check(
            0.125 <= self.normalisation.resize <= 8.0
            and all((side / self.normalisation.resize).is_integer() for side in self._sides),
            f"resize of {self.normalisation.resize} is not within 1/8 and 8, or makes no whole"
            f" number of an exposure's pixels of tiles of {self.tile_size}, {self.answer_size}, or"
            f" an overlap of {self.overlap}",
        )


Scaling = Literal["asinh", "l2", "none"]


class StampModel(
    ModelCard,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="stamps",
):
    """A version of a classifier of stamps, which answers one number for the stamp of a candidate.

    ``output`` is that number, an image of one pixel: (-1, 1, 1, 1).

    Attributes
    ----------
    scaling
        How the pixels of a stamp are scaled, in each channel by itself. ``asinh``: the
        significance, stretched and clipped by the plane's normalisation, as a U-Net sees it.
        ``l2``: the image's own pixels, background and all, divided by their L2 norm over the stamp
        (braai, Duev et al. 2019, MNRAS 489, 3582). ``none``: those pixels as they are. Masked
        pixels, and what lies beyond the exposure, are 0 in all of them.
    """

    scaling: Scaling = "asinh"

    @property
    def _normalises(self) -> bool:
        return self.scaling == "asinh"

    def check_family(self, check: Check) -> None:
        """See `ModelCard`."""
        check(
            self.output.shape[1:] == (1, 1, 1),
            f"output is {self.output.shape}: a classifier of stamps gives one probability for each,"
            " (-1, 1, 1, 1)",
        )
        check(
            self.tile_size[0] == self.tile_size[1],
            f"stamps are {self.tile_size[0]}x{self.tile_size[1]} px: give them as many rows as"
            " columns",
        )
        check(
            0 < len(set(self.polarities)) == len(self.polarities),
            f"polarities are {list(self.polarities)}: name 1, -1 or both, each once",
        )
        check(
            self.normalisation.resize == 1.0,
            f"resize is {self.normalisation.resize}: stamps are cut out of an exposure's own"
            " pixels; resize within the model",
        )


class _Kind(msgspec.Struct):
    """What a card says of its family."""

    kind: Any = "unet"


#: The families of networks, by what the field ``kind`` of a card says.
_FAMILIES: dict[str, type[UNetModel] | type[StampModel]] = {
    "unet": UNetModel,
    "stamps": StampModel,
}


def _nearest_known(problem: str, kind: Any) -> str:
    """A problem of decoding; of an unknown field, with the nearest that is known in its place."""
    if not (found := _UNKNOWN.search(problem)):
        return problem
    field, path = found["field"], (found["at"] or "").strip(".").split(".")
    for part in filter(None, path):
        hints = typing.get_type_hints(kind)
        inside = [one for one in (hints[part], *typing.get_args(hints[part])) if _is_struct(one)]
        if not inside:
            return problem
        kind = inside[0]
    known = [one.name for one in msgspec.structs.fields(kind)]
    nearest = difflib.get_close_matches(field, known, n=1, cutoff=0.0)[0]
    at = ".".join(filter(None, (*path, field)))
    return (
        f"the field {at!r} is unknown: the nearest that is known is {nearest!r}; correct it, or"
        " leave it out"
    )


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
