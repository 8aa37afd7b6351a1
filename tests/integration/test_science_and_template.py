"""A network that looks at science and template, from registration to the answers."""

import hashlib

import grpc
import httpx
import mlflow
import msgspec
import numpy as np
import pytest

from astrotriton.client import Client, InferRequest, ProblemError
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.golden import GOLDEN_FILE, Golden
from astrotriton.detection.scoring.score import finish, prepare
from astrotriton.export import cards, registry
from astrotriton.export.engine import OnnxEngine
from astrotriton.export.release import Role, release
from astrotriton.export.repository import MODEL_FILE
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from astrotriton.settings import ModelConfig
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import Recipe
from astrotriton.training.exposures import golden_tiles
from tests.integration.gateway_parts import free_port
from tests.integration.promotion_parts import trial, whole_stack
from tests.integration.test_stamps import npy

pytestmark = pytest.mark.export

NAME = "three_planes"
PLANES = ["difference", "science", "template", "has_science", "has_template"]
CARD = {
    "name": NAME,
    "planes": PLANES,
    "optional_planes": ["science", "template"],
    "overlap": 24,
    "plane_normalisations": {"template": {"mesh": 64}},
}
# It is a matched filter: what it finds is not the question.
LIMITS = GateLimits(
    min_average_precision=0.0,
    min_completeness=0.0,
    min_purity=0.0,
    min_bin_completeness=0.0,
    max_ece=1.0,
    max_loss=1.0,
    max_latency_ratio=10.0,
    max_memory_ratio=10.0,
)


def matched_filter():
    """A kernel on the difference; what the other channels show moves its answer a little."""
    import keras

    image = keras.Input((64, 64, len(PLANES)))
    layer = keras.layers.Conv2D(1, 9, padding="same", activation="sigmoid")
    model = keras.Model(image, layer(image), name=NAME)
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.zeros((9, 9, len(PLANES), 1), np.float32)
    kernel[..., 0, 0] = 0.6 * np.exp(-0.5 * (x**2 + y**2) / 1.7**2)
    kernel[4, 4, 1:, 0] = [0.2, -0.3, 0.5, -0.4]
    layer.set_weights([kernel, np.float32([-6.0])])
    return model


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A site that serves the network over HTTP and at a port of gRPC."""
    with whole_stack(tmp_path_factory.mktemp("stack")) as site:
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(site.addresses.mlflow_url)
        model = matched_filter()
        card = cards.completed(CARD, model, trained_at="2026-11-01T12:00:00Z", tile_size=(64, 64))
        version = registry.register(model, card)
        settings = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)
        release(
            f"models:/{NAME}/{version}",
            site.serving(settings=settings),
            golden_tiles,
            trial(limits=LIMITS),
            Role(),
        )
        port = free_port()
        site.gateway = site.start_gateway(NAME, ASTROTRITON_GRPC_PORT=str(port))
        yield site, port
        mlflow.set_tracking_uri(before)


def test_science_and_template_reach_the_network(served):
    site, port = served
    field = simulate(92_000, Recipe(shape=(150, 170), gaps=(0, 0), lines=(0, 0)))
    files = {"science": npy(field.science), "template": npy(field.template)}
    repository = site.serving().repository
    card = repository.read(NAME, 1)
    engine = OnnxEngine(repository.file(NAME, 1, MODEL_FILE), card)
    golden = Golden.from_npz(repository.file(NAME, 1, GOLDEN_FILE))
    assert golden.image.shape == (1, 5, 64, 64)
    places = [{"id": str(i), "x": 20.0 + 13.0 * i, "y": 75.0} for i in range(9)]
    request = msgspec.convert({"candidates": places}, InferRequest)

    def here(sent):
        planes = Planes(**{name: files[name] for name in sent})
        inference = prepare(npy(field.difference), card, request.to_candidates(), planes=planes)
        return finish(inference.answer(engine, 8)).detections

    told = {}
    with Client(site.addresses.gateway_url) as client:
        for sent in ((), ("science",), ("template",), ("science", "template")):
            run = client.score(
                npy(field.difference), request, **{name: files[name] for name in sent}
            )
            assert run.image.planes == ("difference", *sent)
            assert client.run(run.run_id).result.image.planes == run.image.planes
            told[sent] = probabilities(run.detections)
            expected = probabilities(here(sent))
            assert told[sent].keys() == expected.keys()
            for name, probability in expected.items():
                assert told[sent][name] == pytest.approx(probability, abs=1e-4)
        assert len({tuple(one.values()) for one in told.values()}) == 4

        for name, pixels, code in (
            ("science", field.science[1:], "plane-shape"),
            ("template", np.full_like(field.template, np.nan), "no-usable-pixels"),
        ):
            with pytest.raises(ProblemError) as caught:
                client.score(npy(field.difference), request, **{name: npy(pixels)})
            assert caught.value.status == 422
            assert caught.value.field == name
            assert caught.value.code == code

        # The same key with another template is another request.
        key = hashlib.sha256(field.template.tobytes()).hexdigest()
        client.score(npy(field.difference), request, **files, idempotency_key=key)
        with pytest.raises(ProblemError, match="was used for another request"):
            client.score(
                npy(field.difference), request, science=files["science"], idempotency_key=key
            )

    with httpx.Client(base_url=site.addresses.gateway_url, timeout=60) as plain:
        events = plain.get("/schema/events/detection.scored.json").json()
    assert "planes" in str(events)

    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        answer = DetectionsStub(channel).Infer(
            pb.InferRequest(
                exposure=npy(field.difference),
                candidates=pb.Candidates(items=[pb.Candidate(**one) for one in places]),
                **files,
            )
        )
        assert list(answer.run.image.planes) == ["difference", "science", "template"]
        both = probabilities(answer.detections)
        for name, probability in told["science", "template"].items():
            assert both[name] == pytest.approx(probability, abs=1e-4)


def probabilities(detections):
    return {
        one.candidate_id: one.probability
        for one in detections
        if one.candidate_id and one.outcome == "kept"
    }
