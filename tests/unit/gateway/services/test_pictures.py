"""What is kept of exposures, drawn."""

import io
from uuid import uuid4

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astrotriton.detection.image.cutouts import cut_out_unmeasured
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.overviews import Box, overview
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.services.pictures import Look, PictureService
from tests.unit.gateway.gateway_samples import run

SIDE = 63


@pytest.fixture
def service(memory) -> PictureService:
    return PictureService(memory)


@pytest.fixture
def scored(memory):
    made = run(3)
    memory.runs[made.run_id] = made
    return made


async def test_a_cutout_is_drawn_or_answered_as_it_was_stored(service, scored, memory):
    drawn, stored, none = (one.id for one in scored.detections[:3])
    memory.cutouts[drawn] = {"pixels": bytes(SIDE * SIDE), "png": None}
    memory.cutouts[stored] = {"pixels": None, "png": b"a picture"}
    assert (await service.cutout(drawn, Look())).startswith(b"\x89PNG")
    assert await service.cutout(stored, Look(zoom=2)) == b"a picture"
    for ask in (
        service.cutout(none, Look()),
        service.cutout(uuid4(), Look()),
        service.cutout_file(none),
    ):
        with pytest.raises(NotFoundError, match="most confident"):
            await ask
    with pytest.raises(NotFoundError, match="earlier release"):
        await service.cutout_file(stored)
    with pytest.raises(NotFoundError, match="no science image"):
        await service.cutout(drawn, Look(plane="science"))


async def test_science_and_template_are_drawn_where_they_were_sent(service, scored, memory):
    one = scored.detections[0]
    image = np.random.default_rng(1).normal(500.0, 5.0, (SIDE, SIDE)).astype(np.float32)
    (kept,) = cut_out_unmeasured(Exposure.from_array(image), [(31.0, 31.0)])
    memory.cutouts[one.id] = {"pixels": bytes(SIDE * SIDE), "png": None, "template": kept}
    shown = await service.cutout(one.id, Look(plane="template", zoom=2, stretch="linear"))
    assert Image.open(io.BytesIO(shown)).size == (31, 31)
    with fits.open(io.BytesIO(await service.cutout_file(one.id))) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["DIFFERENCE", "TEMPLATE"]
        assert hdus[0].header["DETECTID"] == str(one.id)
        assert np.abs(hdus["TEMPLATE"].data - image).max() < 1.0


async def test_an_exposure_is_shown_in_parts(service, scored, memory):
    image = np.zeros((200, 300), np.float32)
    memory.pictures[scored.run_id] = overview(Exposure.from_array(image), 0.0, 1.0, 512)
    shown = await service.exposure(scored.run_id, Box(10, 20, 30, 40))
    assert Image.open(io.BytesIO(shown)).size == (40, 30)
    with pytest.raises(NotFoundError, match="no picture"):
        await service.exposure(uuid4(), Box(0, 0, 1, 1))
