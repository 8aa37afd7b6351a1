"""The committed weights of the reference U-Net, and the card that belongs to them."""

from pathlib import Path
from typing import TYPE_CHECKING

from astrotriton.detection.card import UNetModel
from astrotriton.training.network import build_unet

if TYPE_CHECKING:
    import keras

WEIGHTS = Path(__file__).parent / "weights"
WEIGHTS_FILE = "unet.weights.h5"
CARD_FILE = "card.json"


def load_card(folder: Path = WEIGHTS) -> UNetModel:
    """The card as training left it: no version yet."""
    return UNetModel.from_json((folder / CARD_FILE).read_bytes())


def load_network(folder: Path = WEIGHTS) -> "keras.Model":
    """The reference U-Net with its weights; takes float32 (N, 512, 512, channels)."""
    card = load_card(folder)
    network = build_unet(
        card.tile_size,
        channels=card.input.shape[1],
        filters=int(card.training_parameters["filters"]),
        answers=card.output.shape[1],
    )
    network.load_weights(folder / WEIGHTS_FILE)
    return network
