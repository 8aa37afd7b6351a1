"""Cards as people write them: read from a file, completed from the model, compared."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.normalisation import OF_COMPANIONS
from astrotriton.export import lowering
from astrotriton.export.errors import ExportError
from astrotriton.wire.exposures import COMPANIONS

if TYPE_CHECKING:
    import keras

_ANSWERS = ("sigmoid", "softmax", "hard_sigmoid")
# Of the default overlap and the default tile, for tiles of other sizes.
_OVERLAP, _TILE = 96, 512
#: What to do about channels that a card does not name.
UNNAMED_CHANNELS = (
    'let the card say what each shows, as planes = ["difference", "science", "template"], or'
    ' "has_science" and "has_template", whether an image that may be left out was sent; channels'
    ' that all show the difference are planes = ["difference", "difference", ...]'
)


def read(path: Path) -> dict[str, Any]:
    """The fields of a card in a file, TOML or, if its name ends so, JSON.

    Raises
    ------
    ExportError
        If it cannot be read.
    """
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        found = decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"the card {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ExportError(f"the card {path} is no table of fields")
    return found


def checked(fields: Mapping[str, Any]) -> ModelCard:
    """The card that these fields are.

    Raises
    ------
    ExportError
        If a field is missing, unknown, or contradicts another.
    """
    try:
        return ModelCard.from_json(msgspec.json.encode(fields))
    except CardError as error:
        raise ExportError(str(error)) from error


def completed(
    given: Mapping[str, Any],
    model: "keras.Model",
    *,
    trained_at: datetime,
    tile_size: tuple[int, int],
) -> ModelCard:
    """A card, with what it does not say taken from its model.

    Parameters
    ----------
    given
        Fields as a person wrote them. ``input`` and ``output`` may say their name alone, or
        nothing. Of ``plane_normalisations`` it may say some, or none.
    model
        Takes (N, H, W, C) and answers (N, H, W, channels), or, if it classifies stamps, (N, 1) or
        (N, classes); several inputs are the channels of one.
    trained_at
        Where the card does not say.
    tile_size
        Height and width of the tiles, pixels, where the model leaves them open.

    Raises
    ------
    ExportError
        If the card contradicts itself, or does not say what has to be said of such a model: that
        it classifies stamps, what its channels show, what its classes are, or what makes
        probabilities of what may be logits.
    """
    fields: dict[str, Any] = {"name": model.name, "trained_at": trained_at, **given}
    seen = [tuple(one.shape) for one in getattr(model, "inputs", None) or ()]
    answered = [tuple(one.shape) for one in getattr(model, "outputs", None) or ()]
    is_stamps = fields.get("kind") == "stamps"
    if answered and len(answered[0]) < 4 and "kind" not in fields:
        raise ExportError(
            f"{model.name} answers {answered[0]}, numbers for an image, as a classifier of stamps"
            ' does: let the card say kind = "stamps"'
        )
    if seen and is_stamps:
        _complete_stamps(fields, model, seen, answered[0])
    elif seen and all(len(shape) == 4 for shape in (*seen, answered[0])):
        height, width = (side or other for side, other in zip(seen[0][1:3], tile_size, strict=True))
        channels = sum(shape[3] for shape in seen)
        fields["input"] = {
            "name": "image",
            "shape": (-1, channels, height, width),
            **fields.get("input", {}),
        }
        sides = (
            side or other for side, other in zip(answered[0][1:3], (height, width), strict=True)
        )
        fields["output"] = {
            "name": "probability",
            "shape": (-1, 1 if fields.get("classes") else answered[0][3], *sides),
            **fields.get("output", {}),
        }
        least = min(fields["output"]["shape"][2:])
        fields.setdefault("overlap", min(_OVERLAP, _OVERLAP * least // _TILE))
    channels = fields.get("input", {}).get("shape", (-1, 1))[1]
    if seen and channels > 1 and "planes" not in fields:
        raise ExportError(f"{model.name} takes {channels} channels: {UNNAMED_CHANNELS}")
    _complete_planes(fields)
    if "activation" not in fields and _may_answer_logits(model):
        raise ExportError(
            f"the last layer of {model.name} has no activation, so it seems to answer logits: let"
            ' the card say activation = "sigmoid" (or "softmax", with its classes), or "none" if'
            " they are probabilities"
        )
    return checked(fields)


def _complete_stamps(
    fields: dict[str, Any],
    model: "keras.Model",
    seen: list[tuple[int | None, ...]],
    answered: tuple[int | None, ...],
) -> None:
    """Fill in what a card of stamps does not say of its input and output."""
    shape = {"shape": (-1, sum(one[-1] or 0 for one in seen), *seen[0][1:3])}
    if len(seen[0]) != 4 or None in shape["shape"]:
        if "shape" not in fields.get("input", {}):
            raise ExportError(
                f"{model.name} takes {seen[0]}, which leaves the size of a stamp open: let the card"
                " say it, input = { shape = [-1, channels, height, width] }"
            )
        shape = {}
    fields["input"] = {"name": "image", **shape, **fields.get("input", {})}
    fields["output"] = {
        "name": "probability",
        "shape": (-1, 1, 1, 1),
        **fields.get("output", {}),
    }
    if len(answered) > 1 and (answered[-1] or 1) > 1 and not fields.get("classes"):
        raise ExportError(
            f"{model.name} answers {answered[-1]} numbers for a stamp: let the card name the"
            ' classes that they stand for, and the one that is served, as classes = ["bogus",'
            ' "real"], positive_class = "real"'
        )


def _complete_planes(fields: dict[str, Any]) -> None:
    """Fill in how science and template are normalised, where the network has them normalised."""
    shown = [one for one in COMPANIONS if one in fields.get("planes", ())]
    if not shown or fields.get("scaling", "asinh") != "asinh":
        return
    usual = msgspec.to_builtins(OF_COMPANIONS)
    own = fields.get("normalisation", {})
    if "resize" in own:
        usual["resize"] = own["resize"]
    said = fields.get("plane_normalisations", {})
    fields["plane_normalisations"] = {
        **said,
        **{plane: {**usual, **said.get(plane, {})} for plane in shown},
    }


def _may_answer_logits(model: "keras.Model") -> bool:
    if lowering.is_saved_model(model) or not getattr(model, "layers", None):
        return False  # Its layers are gone, and the gates look at what it answers.
    last = model.layers[-1]
    named = getattr(getattr(last, "activation", None), "__name__", None)
    return named == "linear"


def differences(one: ModelCard, other: ModelCard) -> list[str]:
    """What two cards say differently, a line each; fields within fields are named with dots."""
    first, second = _flat(msgspec.to_builtins(one)), _flat(msgspec.to_builtins(other))
    return [
        f"{name}: {first.get(name, '-')} -> {second.get(name, '-')}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
