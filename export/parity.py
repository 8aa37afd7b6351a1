"""Keras against ONNX Runtime, on tiles that look like what will be served.

Noise alone proves little: conversions that passed on random input have been wrong on real images.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detection.model import UNetModel
from detection.scoring import prepare
from export.errors import ConversionError, ExportError, ParityError

if TYPE_CHECKING:
    import keras

Tiles = NDArray[np.float32]

TOLERANCE = 1e-4
# Tiles at once: bounds the memory that Keras takes.
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Golden:
    """One tile and Keras's answer to it, both float32 (1, C, H, W).

    Whoever serves the model is ready when it answers ``image`` with ``probability``.
    """

    image: Tiles
    probability: Tiles

    def to_npz(self) -> bytes:
        """The pair as the content of a ``golden.npz``."""
        file = io.BytesIO()
        np.savez(file, image=self.image, probability=self.probability)
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class Difference:
    """How far apart the two engines are on one kind of tile, in absolute probability."""

    tiles: int
    largest: float
    mean: float


@dataclass(frozen=True, slots=True)
class Parity:
    """A comparison that passed."""

    differences: dict[str, Difference]
    golden: Golden

    @property
    def figures(self) -> dict[str, float]:
        """Metrics by name, ``parity_<kind>_<figure>``."""
        return _figures(self.differences)


def compare(
    model: "keras.Model", content: bytes, card: UNetModel, tiles: Mapping[str, Tiles]
) -> Parity:
    """Compare the answers of a Keras model and of the ONNX file made from it.

    Parameters
    ----------
    model
        Takes and gives (N, H, W, C).
    content
        The ONNX file.
    tiles
        By kind (``simulated``, ``real``, ...), float32 (n, C, H, W) as the network sees them:
        normalised, masked pixels 0.

    Returns
    -------
    Parity
        The differences, and of all tiles the one with the most structure in Keras's answer.

    Raises
    ------
    ParityError
        If a difference exceeds 1e-4, or either answers with something that is not a number.
    ConversionError
        If ONNX Runtime cannot load or run the file.
    ExportError
        If the tiles are none, or are not such tiles.
    """
    _check_tiles(tiles, card)
    differences: dict[str, Difference] = {}
    golden, most_structure = None, -1.0
    for kind, batch in tiles.items():
        expected = _ask_keras(model, batch)
        gap = np.abs(_ask_onnx(content, card, batch) - expected)
        differences[kind] = Difference(len(batch), float(gap.max()), float(gap.mean()))
        structure = expected.std(axis=(1, 2, 3))
        best = int(structure.argmax())
        if structure[best] > most_structure:
            most_structure = float(structure[best])
            golden = Golden(batch[best : best + 1].copy(), expected[best : best + 1].copy())
    # Written so that NaN fails.
    failed = {kind: one for kind, one in differences.items() if not one.largest <= TOLERANCE}
    if failed or golden is None:
        told = ", ".join(f"{one.largest:.3g} on {kind} tiles" for kind, one in failed.items())
        raise ParityError(
            f"{card.name} version {card.version}: ONNX Runtime and Keras differ by up to {told},"
            f" more than {TOLERANCE:g} (nan: the weights give no numbers): not published",
            _figures(differences),
        )
    return Parity(differences, golden)


def tiles_of_exposure(content: bytes, card: UNetModel, *, most: int = 4) -> Tiles:
    """Golden tiles from a real exposure, prepared exactly as it would be for scoring.

    Parameters
    ----------
    content
        A FITS or .npy file.
    most
        At most so many tiles, evenly spread over the exposure.

    Returns
    -------
    Tiles
        float32 (n, C, H, W).

    Raises
    ------
    detection.errors.InputError
        If it cannot be scored.
    """
    work = prepare(content, card, [])
    chosen = np.unique(np.linspace(0, len(work.tiles) - 1, most).round().astype(int))
    return np.concatenate([work.batch(int(one), int(one) + 1) for one in chosen])


def _figures(differences: Mapping[str, Difference]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind, one in differences.items():
        figures[f"parity_{kind}_tiles"] = one.tiles
        figures[f"parity_{kind}_max_abs"] = one.largest
        figures[f"parity_{kind}_mean_abs"] = one.mean
    return figures


def _check_tiles(tiles: Mapping[str, Tiles], card: UNetModel) -> None:
    if not tiles:
        raise ExportError("no golden tiles were given, so nothing can be compared")
    for kind, batch in tiles.items():
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != card.input.shape[1:]:
            raise ExportError(
                f"golden tiles {kind!r} are {batch.dtype} {batch.shape}, the card takes float32"
                f" (n, {', '.join(map(str, card.input.shape[1:]))})"
            )
        if not len(batch) or not np.isfinite(batch).all():
            raise ExportError(
                f"golden tiles {kind!r} are none, or hold pixels that are not numbers; masked ones"
                " are to be 0"
            )


def _ask_keras(model: "keras.Model", tiles: Tiles) -> Tiles:
    answers = [
        model(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)), training=False).numpy()
        for batch in _batches(tiles)
    ]
    return np.ascontiguousarray(np.concatenate(answers).transpose(0, 3, 1, 2))


def _ask_onnx(content: bytes, card: UNetModel, tiles: Tiles) -> Tiles:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        answers = [
            session.run([card.output.name], {card.input.name: batch})[0]
            for batch in _batches(tiles)
        ]
    except Exception as error:
        # ONNX Runtime's faults have no common class of their own.
        raise ConversionError(
            f"{card.name}: ONNX Runtime cannot run the converted model: {error}"
        ) from error
    return np.concatenate(answers)


def _batches(tiles: Tiles) -> list[Tiles]:
    return [tiles[start : start + _BATCH] for start in range(0, len(tiles), _BATCH)]
