"""The two engines that are compared: Keras, and ONNX Runtime on the file made from it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.card import ModelCard
from astrotriton.export.errors import ConversionError, one_line
from astrotriton.export.lowering import inputs_of

if TYPE_CHECKING:
    import keras

Tiles = NDArray[np.float32]
"""float32 (N, C, H, W)."""

Outputs = dict[str, Tiles]
"""What a network answers, by the output's name in the ONNX file."""

# Tiles at once: bounds the memory that Keras takes.
_BATCH = 4
# Between a tile alone and the same in company, what no order of summing explains.
_MIXED = 1e-3


class OnnxEngine:
    """ONNX Runtime on an exported file, on the CPU.

    Parameters
    ----------
    content
        The ONNX file.
    card
        Names its input and the output that is the probability.

    Raises
    ------
    ConversionError
        If ONNX Runtime cannot load the file, or, later, run it.
    """

    def __init__(self, content: bytes, card: ModelCard) -> None:
        import onnxruntime

        self._card = card
        try:
            self._session = onnxruntime.InferenceSession(
                content, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise self._told(error) from error
        self._names = [output.name for output in self._session.get_outputs()]

    def outputs(self, tiles: Tiles) -> Outputs:
        """Every output for these tiles."""
        try:
            answers = [
                self._session.run(self._names, {self._card.input.name: batch})
                for batch in _batches(tiles)
            ]
        except Exception as error:
            raise self._told(error) from error
        joined = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return dict(zip(self._names, joined, strict=True))

    def __call__(self, tiles: Tiles) -> Tiles:
        """The probability alone."""
        return self.outputs(tiles)[self._card.output.name]

    def _told(self, error: Exception) -> ConversionError:
        # ONNX Runtime's faults have no common class of their own.
        return ConversionError(
            f"{self._card.name}: ONNX Runtime cannot run the converted model: {one_line(error)}"
        )


class KerasEngine:
    """The Keras model itself, asked in NCHW.

    Parameters
    ----------
    model
        Takes float32 (N, H, W, C); several inputs are given the channels in their order.
    names
        Its outputs' names in the ONNX file, in Keras's order; see `export.lowering.servable`.
    card
        Names the output that is the probability.
    """

    def __init__(self, model: "keras.Model", names: list[str], card: ModelCard) -> None:
        self._model = model
        self._names = names
        self._card = card

    def outputs(self, tiles: Tiles) -> Outputs:
        """Every output for these tiles."""
        answers = [self._ask(batch) for batch in _batches(tiles)]
        joined = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return dict(zip(self._names, joined, strict=True))

    def __call__(self, tiles: Tiles) -> Tiles:
        """The probability alone."""
        return self.outputs(tiles)[self._card.output.name]

    def mixing_layer(self, tiles: Tiles) -> str | None:
        """The first layer or operation that answers tiles differently together than alone.

        None if none does that can be seen from outside, as within a layer that is a model itself.
        """
        import keras

        steps = [one for one in self._model.operations if getattr(one, "output", None) is not None]
        try:
            inside = KerasEngine(
                keras.Model(
                    self._model.inputs if len(self._model.inputs) > 1 else self._model.inputs[0],
                    [one.output for one in steps],
                ),
                [str(number) for number in range(len(steps))],
                self._card,
            )
            together = inside._ask(tiles)
            alone = [inside._ask(tile[None]) for tile in tiles]
        except Exception:  # It only helps to say more of what is refused in any case.
            return None
        for step, answer, *each in zip(steps, together, *alone, strict=False):
            # A mean over the batch is one for all of them.
            shared = answer if len(answer) == len(tiles) else answer[[0] * len(tiles)]
            if np.abs(np.concatenate([one[:1] for one in each]) - shared).max() > _MIXED:
                return str(step.name)
        return None

    def _ask(self, batch: Tiles) -> list[Tiles]:
        import keras

        image = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        try:
            answer = self._model(inputs_of(self._model, image), training=False)
        except Exception as error:  # A layer's code may raise anything, and so may TensorFlow.
            raise ConversionError(
                f"{self._card.name}: the Keras model cannot answer a tile of the card's shape:"
                f" {one_line(error)}: correct the card's shapes, or the model"
            ) from error
        return [_channels_first(one.numpy()) for one in keras.tree.flatten(answer)]


def _channels_first(answer: Tiles) -> Tiles:
    """Images as in the ONNX file; what is no image, as it is."""
    return np.ascontiguousarray(answer.transpose(0, 3, 1, 2)) if answer.ndim == 4 else answer


def _batches(tiles: Tiles) -> Iterator[Tiles]:
    return (tiles[start : start + _BATCH] for start in range(0, len(tiles), _BATCH))
