"""Classifiers of stamps: converted, and through a site from `register` to the gateway's answer."""

import io
import json

import grpc
import httpx
import mlflow
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from astrotriton.cli import main
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.criteria import GateLimits
from astrotriton.detection.quality.drift import BASELINE_FILE
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.labelled import VALIDATION_FILE
from astrotriton.detection.scoring.score import prepare_exposure
from astrotriton.export import cards, convert, keras_files, onnx_graph
from astrotriton.export.engine import OnnxEngine
from astrotriton.export.errors import ConversionError, ExportError
from astrotriton.export.gates.version import Trial
from astrotriton.export.release import Role, release
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from astrotriton.one_machine.trial_triton import open_sandbox
from astrotriton.settings import ModelConfig
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.calibrate import transients_of
from astrotriton.training.exposures import golden_tiles, validation_set
from tests.integration.gateway_parts import free_port
from tests.integration.promotion_parts import whole_stack
from tests.unit.export import samples, stamp_models

pytestmark = pytest.mark.export

TOLERANCE = 1e-4
AT = "2026-11-01T12:00:00Z"
TWO = {"classes": ("bogus", "real"), "positive_class": "real"}


def convolutional(outputs=1, activation="sigmoid", channels=1):
    """One that answers (N, 1, 1, outputs), as a classifier without dense layers does."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((stamp_models.SIZE, stamp_models.SIZE, channels)),
            layers.Conv2D(4, 5, strides=4, activation="relu"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(outputs, 1, activation=activation),
        ]
    )


def logits(outputs):
    import keras

    one = stamp_models.braai_like(outputs)
    one.layers[-1].activation = keras.activations.linear
    return keras.models.clone_model(one)


def stamps(channels=1, count=5):
    size = stamp_models.SIZE
    made = np.random.default_rng(1).normal(size=(count, channels, size, size))
    return made.astype(np.float32)


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def softmax(values):
    return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("build", "said", "probability"),
    [
        (lambda: stamp_models.braai_like(1), {}, lambda own: own[:, 0]),
        (lambda: stamp_models.braai_like(2), TWO, lambda own: own[:, 1]),
        (lambda: logits(1), {"activation": "sigmoid"}, lambda own: sigmoid(own)[:, 0]),
        (
            lambda: logits(3),
            {**TWO, "classes": ("bogus", "real", "star"), "activation": "softmax"},
            lambda own: softmax(own)[:, 1],
        ),
        (convolutional, {}, lambda own: own[:, 0, 0, 0]),
    ],
    ids=["one_number", "two_classes", "a_logit", "three_logits", "an_image_of_a_pixel"],
)
def test_a_classifier_converts_and_answers_as_keras(build, said, probability):
    model = build()
    card = cards.completed(
        {"kind": "stamps", "name": "classifier", **said}, model, trained_at=AT, tile_size=(512, 512)
    )
    assert card.input.shape == (-1, 1, 63, 63)
    assert card.output.shape == (-1, 1, 1, 1)
    content = convert.convert(model, card, "")
    onnx_graph.check(onnx_graph.load(content), card)
    tiles = stamps()
    answer = OnnxEngine(content, card)(tiles)
    assert answer.shape == (5, 1, 1, 1)
    own = model(tiles.transpose(0, 2, 3, 1), training=False).numpy()
    assert np.abs(answer[:, 0, 0, 0] - probability(own)).max() < TOLERANCE
    alone = np.concatenate([OnnxEngine(content, card)(one[None]) for one in tiles])
    assert np.abs(alone - answer).max() < TOLERANCE


def test_channels_that_nobody_names_are_refused():
    planes = ("science", "template", "difference")
    model = stamp_models.braai_like(1, channels=3)
    with pytest.raises(ExportError, match="let the card say what each shows"):
        cards.completed({"kind": "stamps"}, model, trained_at=AT, tile_size=(512, 512))
    given = {"kind": "stamps", "name": "triplets", "planes": planes}
    card = cards.completed(given, model, trained_at=AT, tile_size=(512, 512))
    assert card.required_planes == ("science", "template")
    assert OnnxEngine(convert.convert(model, card, ""), card)(stamps(3)).shape == (5, 1, 1, 1)
    same = msgspec.structs.replace(card, planes=("difference",) * 3, plane_normalisations={})
    assert OnnxEngine(convert.convert(model, same, ""), same)(stamps(3)).shape == (5, 1, 1, 1)


def test_what_a_card_has_to_say_of_a_classifier_is_asked_for():
    def complete(model, **given):
        return cards.completed(given, model, trained_at=AT, tile_size=(512, 512))

    with pytest.raises(ExportError, match='let the card say kind = "stamps"'):
        complete(stamp_models.braai_like(1))
    with pytest.raises(ExportError, match="answers 2 numbers for a stamp: let the card name"):
        complete(stamp_models.braai_like(2), kind="stamps")
    with pytest.raises(ExportError, match="seems to answer logits"):
        complete(logits(1), kind="stamps")
    with pytest.raises(ExportError, match="kind is 'stemps'"):
        complete(samples.unet(), kind="stemps")
    wrong = complete(stamp_models.braai_like(2), kind="stamps", name="net", **TWO)
    with pytest.raises(ConversionError, match="names 3 classes"):
        convert.convert(
            stamp_models.braai_like(2),
            msgspec.structs.replace(wrong, classes=("bogus", "real", "star")),
            "",
        )


def test_a_network_of_many_inputs_and_classes_is_wrapped_as_the_documents_show(tmp_path):
    """As MaxiMask: an image and the share of each class, and a probability for each class."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((64, 64, 1))
    shares = keras.Input((4,))
    seen = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    weight = layers.Reshape((1, 1, 8))(layers.Dense(8)(shares))
    classes = layers.Conv2D(4, 3, padding="same", activation="sigmoid")(seen * weight)
    network = keras.Model([image, shares], classes)
    network.save(tmp_path / "maximask.keras")

    network = keras.models.load_model(tmp_path / "maximask.keras")
    image = keras.Input((64, 64, 1), name="image")
    shares = keras.ops.ones_like(image[:, 0, 0, :]) * np.float32([[0.90, 0.04, 0.04, 0.02]])
    classes = network([image, shares])
    clean = 1.0 - keras.ops.max(classes[..., 1:], axis=-1, keepdims=True)
    keras.Model(image, clean, name="clean").save(tmp_path / "clean.keras")

    wrapped = keras_files.load(tmp_path / "clean.keras")
    card = cards.completed({}, wrapped, trained_at=AT, tile_size=(512, 512))
    assert card.output.shape == (-1, 1, 64, 64)
    tiles = samples.tiles()
    answer = OnnxEngine(convert.convert(wrapped, card, ""), card)(tiles)
    own = network(
        [tiles.transpose(0, 2, 3, 1), np.float32([[0.90, 0.04, 0.04, 0.02]] * len(tiles))]
    ).numpy()
    assert np.abs(answer[:, 0] - (1.0 - own[..., 1:].max(axis=-1))).max() < TOLERANCE


NAME = "braai_like"
CARD = """
kind = "stamps"
name = "braai_like"
polarities = [1, -1]
planes = ["difference"]
scaling = "asinh"
"""
CARDS = {1: CARD, 2: CARD + 'classes = ["bogus", "real"]\npositive_class = "real"\n'}
# What seconds of training reach; that the gates refuse is tested with U-Nets.
LIMITS = GateLimits(
    min_average_precision=0.6,
    min_completeness=0.4,
    min_purity=0.4,
    min_bin_completeness=0.0,
    max_ece=0.4,
    max_loss=0.4,
    max_trade=1.0,
    max_bin_loss=1.0,
    max_latency_ratio=10.0,
    max_memory_ratio=5.0,
)


@pytest.fixture(scope="module")
def classifiers():
    """By the number of its answers: a sigmoid of one, and a softmax of two."""
    data = stamp_models.labelled(stamp_models.card(scaling="asinh"), fields=16)
    return {outputs: stamp_models.trained(outputs, data) for outputs in (1, 2)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with whole_stack(tmp_path_factory.mktemp("stack")) as made:
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(made.addresses.mlflow_url)
        yield made
        mlflow.set_tracking_uri(before)


def command(site, *arguments):
    environment = {"MLFLOW_TRACKING_URI": site.addresses.mlflow_url}
    result = CliRunner().invoke(main, [str(one) for one in arguments], env=environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def promoted(site, version):
    trial = Trial(validation=lambda: validation_set(6), open_sandbox=open_sandbox, limits=LIMITS)
    serving = site.serving(settings=ModelConfig(model_name=NAME, batch_size=32, enable_gpu=False))
    return release(f"models:/{NAME}/{version}", serving, golden_tiles, trial, Role())


def test_classifiers_from_registration_to_the_answer(site, classifiers, tmp_path):
    for outputs, model in classifiers.items():
        model.save(tmp_path / "classifier.keras")
        (tmp_path / "card.toml").write_text(CARDS[outputs])
        wanted = (tmp_path / "classifier.keras", "--card", tmp_path / "card.toml", "--json")
        assert command(site, "register", *wanted)["version"] == outputs

    port = free_port()
    promoted(site, 1)
    site.gateway = site.start_gateway(NAME, ASTROTRITON_GRPC_PORT=str(port))
    field = simulate(91_000, mixed_recipe(0))
    exposure = Exposure.from_array(field.difference)
    with httpx.Client(base_url=site.addresses.gateway_url, timeout=120) as client:
        for version, model in classifiers.items():
            if version > 1:
                promoted(site, version)
            card = site.serving().repository.read(NAME, version)
            candidates = judged_candidates(exposure, card, transients_of(field))
            stamps = prepare_exposure(exposure, card, candidates).batch(0, len(candidates))
            own = model(stamps.transpose(0, 2, 3, 1), training=False).numpy()[:, -1]
            answer = asked(client, field.difference, candidates)
            assert answer.status_code == 200, answer.text
            run = answer.json()
            assert run["model"]["version"] == version
            assert not run["extracted"]
            assert_as_keras(run["detections"], candidates, own)
            # A version travels with its fields, and has no baseline of exposures.
            assert VALIDATION_FILE in card.digests
            assert BASELINE_FILE not in card.digests

        without = asked(client, field.difference, None)
        assert without.status_code == 422
        assert without.json()["field"] == "candidates"
        assert without.json()["type"].endswith("candidates-missing")
        assert "send those that your pipeline has found" in without.text
        assert asked(client, field.difference, []).json()["detections"] == []

    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        sent = [pb.Candidate(id=one.id, x=one.x, y=one.y) for one in candidates[:40]]
        request = pb.InferRequest(
            exposure=npy(field.difference), candidates=pb.Candidates(items=sent)
        )
        told = DetectionsStub(channel).Infer(request)
        found = [
            {
                "candidate_id": one.candidate_id,
                "outcome": one.outcome,
                "probability": one.probability,
            }
            for one in told.detections
        ]
        assert_as_keras(found, candidates[:40], own)
        with pytest.raises(grpc.RpcError, match="classifies stamps") as refused:
            DetectionsStub(channel).Infer(pb.InferRequest(exposure=npy(field.difference)))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def assert_as_keras(detections, candidates, own):
    expected = {one.id: float(said) for one, said in zip(candidates, own, strict=False)}
    kept = [one for one in detections if one["outcome"] == "kept"]
    assert len(detections) == len(candidates)
    assert len(kept) > 20
    for one in kept:
        assert abs(one["probability"] - expected[one["candidate_id"]]) < TOLERANCE


def npy(image):
    stream = io.BytesIO()
    np.save(stream, image)
    return stream.getvalue()


def asked(client, image, candidates):
    files = {"exposure": ("exposure.npy", npy(image))}
    if candidates is not None:
        sent = [{"id": one.id, "x": one.x, "y": one.y} for one in candidates]
        files["request"] = (None, json.dumps({"candidates": sent}), "application/json")
    return client.post("/detections/infer", files=files)
