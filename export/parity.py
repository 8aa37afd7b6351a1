"""Keras against ONNX Runtime, on tiles that look like what will be served.

Noise alone proves little: conversions that passed on random input have been wrong on real images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from astrotriton.detection.card import ModelCard
from astrotriton.detection.quality.golden import TOLERANCE, Golden
from astrotriton.export.engine import KerasEngine, OnnxEngine, Tiles
from astrotriton.export.errors import ExportError, ParityError


@dataclass(frozen=True, slots=True)
class Difference:
    """How far apart the two engines are in one output on one kind of tile.

    Attributes
    ----------
    tiles
        How many were compared.
    largest, mean
        Absolute difference.
    relative
        Largest difference in units of the largest value that Keras answered.
    """

    tiles: int
    largest: float
    mean: float
    relative: float


@dataclass(frozen=True, slots=True)
class Parity:
    """A comparison that passed.

    Attributes
    ----------
    differences
        By kind of tile, for the first output; further outputs by ``<kind>_<output>``.
    golden
        The tile with the most structure in Keras's answer, or the stamp of the least decided one.
    """

    differences: dict[str, Difference]
    golden: Golden

    @property
    def figures(self) -> dict[str, float]:
        """Metrics by name, ``parity_<kind>_<figure>``."""
        return _figures(self.differences)


def compare(
    source: KerasEngine,
    converted: OnnxEngine,
    card: ModelCard,
    tiles: Mapping[str, Tiles],
    *,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare the answers of a Keras model and of the ONNX file made from it.

    Parameters
    ----------
    source, converted
        The two engines.
    tiles
        By kind (``simulated``, ``real``, ...), float32 (n, C, H, W) as the network sees them:
        normalised, masked pixels 0.
    tolerance
        Largest difference that passes: absolute for answers up to 1, relative for larger ones.

    Returns
    -------
    Parity
        The differences in every output, and of all tiles the one with the most structure.

    Raises
    ------
    ParityError
        If a difference exceeds the tolerance, or either answers with something that is not a
        number.
    ConversionError
        If ONNX Runtime cannot run the file.
    ExportError
        If the tiles are none, or are not such tiles.
    """
    _check_tiles(tiles, card)
    differences: dict[str, Difference] = {}
    failed: dict[str, Difference] = {}
    golden, most_structure = None, -1.0
    for kind, batch in tiles.items():
        expected, answered = source.outputs(batch), converted.outputs(batch)
        if missing := expected.keys() ^ answered.keys():
            raise ExportError(f"{card.name}: only one engine has the output {sorted(missing)}")
        for name, wanted in expected.items():
            gap = np.abs(answered[name] - wanted)
            scale = float(np.abs(wanted).max())
            largest = float(gap.max())
            one = Difference(len(batch), largest, float(gap.mean()), largest / max(scale, 1e-12))
            label = kind if name == card.output.name else f"{kind}_{name}"
            differences[label] = one
            # Written so that NaN fails.
            if not largest <= tolerance * max(1.0, scale):
                failed[label] = one
        first = expected[card.output.name]
        structure = first.std(axis=(1, 2, 3))
        if first.shape[1:] == (1, 1, 1):
            # Of one number, the least decided: what goes wrong in a network moves it the most.
            structure = (first * (1.0 - first))[:, 0, 0, 0]
        best = int(structure.argmax())
        if structure[best] > most_structure:
            most_structure = float(structure[best])
            golden = Golden(batch[best : best + 1].copy(), first[best : best + 1].copy())
    if failed or golden is None:
        told = ", ".join(f"{one.largest:.3g} on {kind} tiles" for kind, one in failed.items())
        raise ParityError(
            f"{card.name} version {card.version}: ONNX Runtime and Keras differ by up to {told},"
            f" more than {tolerance:g} (nan: the weights give no numbers): not published",
            _figures(differences),
        )
    return Parity(differences, golden)


def _figures(differences: Mapping[str, Difference]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind, one in differences.items():
        figures[f"parity_{kind}_tiles"] = one.tiles
        figures[f"parity_{kind}_max_abs"] = one.largest
        figures[f"parity_{kind}_mean_abs"] = one.mean
        figures[f"parity_{kind}_max_rel"] = one.relative
    return figures


def _check_tiles(tiles: Mapping[str, Tiles], card: ModelCard) -> None:
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
