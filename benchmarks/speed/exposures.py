"""The exposures that every contender scores: simulated, fixed, made once."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.card import UNetModel
from astrotriton.detection.scoring.score import prepare
from astrotriton.simulation.fields import Field, simulate
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.exposures import to_fits

SIDE = 512
_SEEDS = 9_000_000


@dataclass(frozen=True, eq=False)
class Exposure:
    """One exposure.

    Attributes
    ----------
    file
        FITS, big-endian float32, as a pipeline would write it.
    candidates
        Positions (x, y) of what was put in, for designs that look at nothing else.
    tiles
        What the network is shown of it: float32 (N, C, H, W), normalised.
    """

    file: bytes
    candidates: list[tuple[float, float]]
    tiles: NDArray[np.float32]

    @cached_property
    def channels_last(self) -> NDArray[np.float32]:
        """The tiles as Keras takes them, (N, H, W, C)."""
        return np.ascontiguousarray(np.moveaxis(self.tiles, 1, -1))

    @cached_property
    def as_json(self) -> bytes:
        """The tiles as MLflow's server takes them."""
        return json.dumps({"inputs": {"image": self.channels_last.tolist()}}).encode()


def asked(candidates: Iterable[tuple[float, float]]) -> str:
    """The part ``request`` that asks the gateway for candidates at positions (x, y)."""
    return json.dumps({"candidates": [{"x": x, "y": y} for x, y in candidates]})


def exposures(count: int, card: UNetModel, cache: Path, side: int = SIDE) -> list[Exposure]:
    """The first so many exposures, and their tiles as the card says.

    Parameters
    ----------
    cache
        Where the files are kept.
    side
        Rows and columns, pixels.
    """
    found = []
    for number in range(count):
        content, candidates = made(number, side, cache / "exposures")
        tiled = prepare(content, card, [])
        found.append(Exposure(content, candidates, tiled.batch(0, len(tiled))))
    return found


def repeated(field: Field, side: int) -> Field:
    """A square field of any size that holds as many sources an area.

    One of 8192x8192 made anew would take minutes; what it costs to score is the same.
    """
    height, width = field.difference.shape
    times = -(-side // height), -(-side // width)
    image = np.tile(field.difference, times)[:side, :side]
    truth = [
        replace(one, x=one.x + column * width, y=one.y + row * height)
        for row, column in np.ndindex(times)
        for one in field.truth
    ]
    inside = [one for one in truth if max(one.x, one.y) < side - 0.5 and min(one.x, one.y) >= 0]
    return replace(field, difference=image, truth=inside)


def made(number: int, side: int, folder: Path) -> tuple[bytes, list[tuple[float, float]]]:
    """The file of an exposure and the candidates in it, made once and kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    image, truth = folder / f"{side}-{number}.fits", folder / f"{side}-{number}.json"
    if not truth.exists():
        field = repeated(simulate(_SEEDS + number, mixed_recipe(number)), side)
        image.write_bytes(to_fits(field))
        new = truth.with_suffix(".new")
        new.write_text(json.dumps([(round(one.x, 2), round(one.y, 2)) for one in field.truth]))
        new.replace(truth)
    return image.read_bytes(), json.loads(truth.read_text())
