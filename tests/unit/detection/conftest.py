"""A card, and a stand-in network that is a matched filter: pure functions need no trained one."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.scoring.tiled_inference import TiledInference


@pytest.fixture(scope="session")
def card() -> UNetModel:
    return UNetModel(
        name="unet_astronomical",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, 1, 256, 256)),
        output=TensorSpec(name="probability", shape=(-1, 1, 256, 256)),
    )


def answer(tiled: TiledInference) -> TiledInference:
    """Fill the work with the answers of a matched filter at 6 sigma."""
    for start in range(len(tiled)):
        tile = tiled.batch(start, start + 1)
        response = ndimage.gaussian_filter(np.sinh(tile[0, 0]) * 3.0, 1.7) * 6.0
        channels = [_probability(one * response) for one in tiled.card.polarities]
        tiled.accept(start, np.stack(channels)[None])
    return tiled


def _probability(response: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-2.0 * (response - 6.0)))


def field(
    shape: tuple[int, int] = (200, 300),
    sources: tuple[tuple[float, float, float], ...] = ((120.3, 80.6, 30.0),),
    seed: int = 1,
) -> np.ndarray:
    """White noise of sigma 1 with Gaussian sources (x, y, peak), float32."""
    image = np.random.default_rng(seed).normal(size=shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for x0, y0, peak in sources:
        image += peak * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.7**2)
    return image.astype(np.float32)


def to_fits(data: np.ndarray, **header: object) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(data, fits.Header(header)).writeto(stream)
    return stream.getvalue()


def to_npy(data: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, data, allow_pickle=True)
    return stream.getvalue()
