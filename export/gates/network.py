"""Whether a network answers each tile by itself, and with something; it takes a moment to ask."""

import numpy as np

from astrotriton.detection.card import UNetModel
from astrotriton.detection.quality.golden import TOLERANCE
from astrotriton.export.engine import Tiles
from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.wire.validation import Gate

# Tiles that are answered together and alone.
_TOGETHER = 3
# Of probabilities: what differs by less says the same everywhere.
_SAME = 1e-3
# Sources cover a few hundredths of an exposure; a galaxy cluster or a globular one, a tenth.
_MOST_COVERED = 0.25
# As probable as not.
_EVEN = 0.5
# What half precision makes of the order of a sum.
_LEAN = 1e-2


class Batch:
    """Whether a tile is answered the same in company of others: Triton puts callers together."""

    name = "batch"
    needs = ("parity",)

    def applies(self, version: VersionUnderTest) -> bool:
        """Always."""
        return True

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        tiles = _tiles(version)[:_TOGETHER]
        together = version.engine(tiles)
        alone = np.concatenate([version.engine(tile[None]) for tile in tiles])
        apart = float(np.abs(together - alone).max())
        problems = []
        if not apart <= (TOLERANCE if version.precision == "fp32" else _LEAN):
            layer = version.source.mixing_layer(tiles)
            problems.append(
                f"{version.card.name} mixes the tiles of a batch"
                + (f" in the layer {layer!r}" if layer else "")
                + f": in a batch of {len(tiles)} a probability differs by {apart:.3g} from the same"
                " tile's alone; take what it computes over the batch (axis 0) over each image"
            )
        return Gate.of(
            self.name,
            problems,
            f"a tile in a batch of {len(tiles)} is answered as alone, within {apart:.1e}",
            batch_max_abs=apart,
        )


class Answers:
    """Whether what it answers are probabilities that tell something from nothing."""

    name = "answers"
    needs = ("parity",)

    def applies(self, version: VersionUnderTest) -> bool:
        """Always."""
        return True

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        card = version.card
        answer = version.engine(_tiles(version))[:, : len(card.polarities)]
        least, most = float(answer.min()), float(answer.max())
        # Of a classifier's stamps, any share may be of sources.
        pixels = isinstance(card, UNetModel)
        threshold = card.threshold if isinstance(card, UNetModel) else _EVEN
        covered = float(np.mean(answer >= threshold))
        problems = []
        if not (least >= -TOLERANCE and most <= 1.0 + TOLERANCE):
            problems.append(
                f"the answers reach from {least:.3g} to {most:.3g}, which are no probabilities: if"
                ' they are logits, say activation = "sigmoid" in the card (or "softmax", with'
                " classes and positive_class)"
            )
        elif most - least < _SAME:
            problems.append(
                f"it answers {answer.mean():.3g} everywhere, on sources and on empty sky alike:"
                " train it, or look whether its weights were loaded"
            )
        elif pixels and version.trial is not None and covered > _MOST_COVERED:
            problems.append(
                f"it calls {covered:.0%} of the pixels sources (probability of {threshold:g}"
                f" and more), at most {_MOST_COVERED:.0%} is allowed: train it, or correct the"
                " card's threshold or normalisation"
            )
        return Gate.of(
            self.name,
            problems,
            f"probabilities from {least:.2g} to {most:.2g}; {covered:.1%} of the"
            f" {'pixels' if pixels else 'stamps'} are called sources",
            answers_min=least,
            answers_max=most,
            answers_covered=covered,
        )


def _tiles(version: VersionUnderTest) -> Tiles:
    """Every golden tile, float32 (N, C, H, W)."""
    return np.concatenate(list(version.golden_tiles.values()))
