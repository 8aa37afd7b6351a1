"""Scores an exposure with the stubs that grpcio-tools has generated."""

import json
import sys
from pathlib import Path

import grpc
from detections_pb2 import Candidate, Candidates, InferRequest
from detections_pb2_grpc import DetectionsStub

gateway, key, file = sys.argv[1:]
candidates = Candidates(items=[Candidate(id="one", x=60.0, y=50.0)])
request = InferRequest(
    exposure=Path(file).read_bytes(), candidates=candidates, confidence_threshold=0.5
)
with grpc.insecure_channel(gateway, [("grpc.enable_http_proxy", 0)]) as channel:
    metadata = [("authorization", f"Bearer {key}")]
    stub = DetectionsStub(channel)
    answer = stub.Infer(request, metadata=metadata, wait_for_ready=True)
    events = list(stub.InferStream(request, metadata=metadata))
assert events[-1].WhichOneof("event") == "part"
print(
    json.dumps(
        {
            "real": [[one.x, one.y] for one in answer.detections if one.is_real],
            "candidates": [one.candidate_id or None for one in answer.detections],
            "streamed": sum(len(event.part.detections) for event in events),
        }
    )
)
