"""Scores an exposure with the client that openapi-python-client has generated."""

import io
import json
import sys
from pathlib import Path

from generated.api.detections import get_cutout, infer
from generated.api.runs import get_run
from generated.client import AuthenticatedClient
from generated.models import CandidateIn, InferBody, InferRequest, InferResponse, RunStatus
from generated.types import File

gateway, key, file = sys.argv[1:]
exposure = File(io.BytesIO(Path(file).read_bytes()), file_name="night.npy")
request = InferRequest(candidates=[CandidateIn(id="one", x=60.0, y=50.0)], confidence_threshold=0.5)
with AuthenticatedClient(base_url=gateway, token=key, timeout=300.0) as client:
    run = infer.sync(client=client, body=InferBody(exposure=exposure, request=request))
    assert isinstance(run, InferResponse), run
    stored = get_run.sync(run.run_id, client=client)
    assert isinstance(stored, RunStatus), stored
    picture = get_cutout.sync(run.detections[0].id, client=client)
    assert isinstance(picture, File), picture
print(
    json.dumps(
        {
            "real": [[one.x, one.y] for one in run.detections if one.is_real],
            "candidates": [one.candidate_id or None for one in run.detections],
            "status": stored.status,
            "picture": picture.payload.read()[1:4].decode(),
        }
    )
)
