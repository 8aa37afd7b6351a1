"""Scoring exposures, and looking up what was scored."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.context import Context
from gateway.forms import read_infer_form
from gateway.openapi import InferOperation, problems
from gateway.schemas import InferResponse, StoredDetection


class DetectionController(Controller):
    """Detections: made by runs, kept by id."""

    path = "/detections"
    tags = ("detections",)

    @post(
        "/infer",
        status_code=200,
        summary="Score an exposure",
        operation_id="infer",
        operation_class=InferOperation,
        responses=problems(400, 408, 413, 415, 422, 502, 503),
    )
    async def infer(
        self, request: Request[Any, Any, Any], context: NamedDependency[Context]
    ) -> InferResponse:
        """Scores the candidates of an exposure, and the sources that the network finds beside them.

        The exposure is a difference image: the science image minus an aligned reference. What is
        answered has been stored, and a CloudEvent `detection.scored` tells of it.
        Pixel coordinates are 0-based, with the centre of the first pixel at (0, 0) and x along
        columns; sky coordinates are ICRS degrees.
        """
        async with context.admission.enter():
            form = await read_infer_form(request, context.settings)
            return await context.scoring.score(form.content, form.filename, form.request)

    @get(
        "/{detection_id:uuid}",
        summary="One detection",
        operation_id="get_detection",
        responses=problems(400, 404, 503),
    )
    async def get_detection(
        self, detection_id: FromPath[UUID], context: NamedDependency[Context]
    ) -> StoredDetection:
        """A detection as it was answered, with its exposure and the model that scored it."""
        return await context.detections.get(detection_id)
