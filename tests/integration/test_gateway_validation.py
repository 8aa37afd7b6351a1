"""Versions validated through the real way: the trained network on Triton, S3, MLflow."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import numpy as np
import obstore
import pytest

from astrotriton.detection.quality.drift import Baseline, describe
from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.export import accuracy as validation
from astrotriton.export.convert import convert
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.simulation.fields import simulate
from astrotriton.simulation.galsim_psf import random_kolmogorov
from astrotriton.simulation.recipe import mixed_recipe
from astrotriton.training.calibrate import transients_of
from astrotriton.training.evaluate import _class_figures, _score
from astrotriton.training.weights import load_card, load_network
from tests.integration.gateway_parts import (
    NAME,
    NatsServer,
    ObjectStoreServer,
    free_port,
    infer,
    npy,
    serve,
)
from tests.integration.monitoring_parts import (
    OneTriton,
    predictor,
    publish,
    put_fields,
)
from tests.unit.export.samples import perturbed

GOOD, SPOILED, BARE = f"{NAME}:3", f"{NAME}:4", f"{NAME}:5"
FIELDS = 8
SEED = 7_000_000


@pytest.fixture(scope="module")
def simulated():
    """Fields as `make evaluate` makes them."""
    return [simulate(SEED + i, mixed_recipe(i), random_kolmogorov) for i in range(FIELDS)]


@pytest.fixture(scope="module")
def fields(simulated) -> list[LabelledField]:
    return [LabelledField(one.difference, transients_of(one)) for one in simulated]


@pytest.fixture(scope="module")
def network() -> bytes:
    return convert(load_network(), load_card(), "tests")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, network: bytes, fields) -> Path:
    """A good version with all that travels along, a spoiled one, and one that came bare."""
    root = tmp_path_factory.mktemp("repository")
    card, predict = load_card(), predictor(network)
    content = ValidationSet(fields[:4], "four fields").to_fits()
    scored = validation.score_all(ValidationSet.from_fits(content).fields, card, predict)
    baseline = validation.baseline_of(scored, "four fields").to_npz()
    more = {"validation__fits": content, "baseline__npz": baseline}
    publish(root, card, 3, network, **more)
    publish(root, card, 4, perturbed(network, 0.5), **more)
    publish(root, card, 5, network)
    return root


@pytest.fixture(scope="module")
def own_triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneTriton]:
    with OneTriton(repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(scope="module")
def store(object_store: ObjectStoreServer) -> ObjectStoreServer:
    object_store.bucket("labelled")
    return object_store


@pytest.fixture
def own_settings(
    database: str,
    repository: Path,
    own_triton: OneTriton,
    nats_server: NatsServer,
    store: ObjectStoreServer,
    monkeypatch: pytest.MonkeyPatch,
) -> GatewaySettings:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    return GatewaySettings(
        port=free_port(),
        auth="off",
        database_url=database,
        triton_grpc=own_triton.address,
        triton_metrics_port=own_triton.metrics_port,
        nats_url=nats_server.url,
        model_repository=str(repository),
        outbox_poll=0.2,
        s3_buckets=["labelled"],
        s3_endpoint=store.url,
        s3_region="us-east-1",
        tracking_interval=0.5,
    )


@pytest.fixture
async def gateway(own_settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(own_settings) as client:
        yield client


async def validated(client: httpx.AsyncClient, model: str, **asked: object) -> dict:
    """A validation, once it has ended."""
    begun = await client.post(f"/models/{model}/validate", json=asked)
    assert begun.status_code == 202, begun.text
    seen = []
    async with asyncio.timeout(300):
        while True:
            found = (await client.get(begun.headers["location"])).json()
            seen.append(found["progress"])
            if found["status"] in ("complete", "failed"):
                assert seen == sorted(seen)
                return found
            await asyncio.sleep(0.1)


@pytest.mark.monitoring
async def test_the_figures_are_those_of_make_evaluate(gateway, store, network, simulated, fields):
    put_fields(store.bucket("labelled"), "evaluate", fields, "as make evaluate has them")
    found = await validated(gateway, GOOD, dataset="s3://labelled/evaluate")
    assert found["status"] == "complete", found["problem"]
    assert found["progress"] == 1.0
    assert found["fields"] == FIELDS
    assert found["description"] == "as make evaluate has them"

    card = load_card()
    scores = await asyncio.to_thread(_score, iter(simulated), card, predictor(network), tta=False)
    expected = _class_figures(scores)
    expected["centroid_error_px"] = float(np.nanmedian(scores.plain.error))
    expected["false_positives_per_field"] = expected["false_positives_per_tile"]
    print("figure, through the gateway, by make evaluate's functions")
    for name in (
        *("average_precision", "ece", "brier", "brier_uncalibrated"),
        *("centroid_error_px", "false_positives_per_field"),
    ):
        print(f"{name}: {found['figures'][name]:.5f} {expected[name]:.5f}")
        assert found["figures"][name] == pytest.approx(expected[name], abs=1e-3)
    # And so do the gates of promotion, which read the same figures.
    own = validation.evaluate(fields, card, predictor(network))
    for name, value in own.items():
        assert found["figures"][name] == pytest.approx(value, abs=1e-3), name
    assert [gate["name"] for gate in found["gates"]] == ["accuracy", "calibration"]
    assert found["passed"] == all(gate["passed"] for gate in found["gates"])
    assert len(found["curves"]["reliability"]["x"]) == 15
    assert found["curves"]["completeness"]["y"][-1] > 0.9


async def test_what_travels_with_a_version_is_the_default(gateway, own_settings):
    found = await validated(gateway, GOOD)
    assert found["status"] == "complete", found["problem"]
    assert found["description"] == "four fields"
    assert found["dataset"] == "default"
    listed = (await gateway.get(f"/models/{GOOD}/validations")).json()
    assert [one["id"] for one in listed] == [found["id"]]
    performance = (await gateway.get(f"/models/{GOOD}/performance")).json()
    assert performance["validation"]["id"] == found["id"]
    assert performance["validation"]["figures"] == found["figures"]
    memory = performance["memory"]["host_memory_used"]
    assert memory["value"] > 1e8
    assert performance["memory"]["gpu_memory_used"]["reason"] == "Triton does not publish it"

    bare = await validated(gateway, BARE)
    assert bare["status"] == "failed"
    assert bare["problem"]["field"] == "validation.fits"


async def test_a_spoiled_version_fails_its_gates_by_name(gateway, own_settings):
    found = await validated(gateway, SPOILED, compare_with=GOOD)
    assert found["status"] == "complete", found["problem"]
    assert found["passed"] is False
    failed = {gate["name"]: gate["detail"] for gate in found["gates"] if not gate["passed"]}
    print(failed)
    assert {"accuracy", "accuracy_change"} <= failed.keys()
    assert found["compared"]["purity"] > found["figures"]["purity"] + 0.2
    assert found["compared_curves"] is not None
    connection = await asyncpg.connect(own_settings.database_url.get_secret_value())
    try:
        text = await connection.fetchval(
            "SELECT event FROM outbox WHERE subject = 'model.validated'"
        )
    finally:
        await connection.close()
    event = msgspec.json.decode(text)
    assert event["type"] == "model.validated"
    assert event["subject"] == SPOILED
    assert event["data"]["passed"] is False
    assert event["data"]["failed_gates"] == list(failed)


async def test_a_data_set_that_cannot_be_used_fails_with_its_file_and_the_reason(
    gateway, store, fields
):
    labelled = store.bucket("labelled")
    few = fields[:2]

    def put(prefix: str, key: str | None = None, content: bytes = b"") -> str:
        put_fields(labelled, prefix, few)
        if key is not None:
            obstore.put(labelled, f"{prefix}/{key}", content)
        return f"s3://labelled/{prefix}"

    lacking = put("lacking")
    obstore.delete(labelled, "lacking/truth.json")
    missing = put("missing")
    obstore.delete(labelled, "missing/001.npy")
    cases = [
        (lacking, "truth.json", "no-truth"),
        ("s3://labelled/nothing-here", "truth.json", "no-truth"),
        (missing, "001.npy", "no-such-object"),
        (put("more", "stray.npy", npy(few[0].image)), "stray.npy", "no-truth"),
        (put("text", "000.npy", b"SIMPLE  = maybe"), "000.npy", None),
        (put("cube", "001.npy", npy(np.zeros((3, 4, 5)))), "001.npy", None),
        (put("empty", "truth.json", b'{"fields": []}'), "truth.json", "bad-truth"),
        (put("garbage", "truth.json", b"\xff\x00"), "truth.json", "bad-truth"),
        (put("nan", "truth.json", b'{"fields": [{"file": "000.npy", "transients": [{"x": NaN}]}]}'),
         "truth.json", "bad-truth"),
        (put("blank", "truth.json",
             b'{"fields": [{"file": "000.npy", "transients": []},'
             b' {"file": "001.npy", "transients": []}]}'), "truth.json", "no-truth"),
    ]  # fmt: skip
    for dataset, field, code in cases:
        found = await validated(gateway, GOOD, dataset=dataset)
        assert found["status"] == "failed", dataset
        assert found["problem"]["field"] == field, (dataset, found["problem"])
        assert found["problem"]["detail"]
        if code is not None:
            assert found["problem"]["type"].endswith(f":{code}"), found["problem"]
        assert found["passed"] is None
        assert found["gates"] == []
    assert len((await gateway.get(f"/models/{GOOD}/validations")).json()) == len(cases)
    # Nobody is hindered.
    assert (await infer(gateway, npy(few[0].image))).status_code == 200


async def test_what_cannot_be_asked_is_refused(gateway):
    for model in (f"{NAME}:99", "x", str(uuid4()), f"{NAME}@challenger"):
        assert (await gateway.post(f"/models/{model}/validate", json={})).status_code == 404
    for body in ({"more": 1}, {"dataset": 3}, {"dataset": "s" * 2000}, [], "x"):
        answer = await gateway.post(f"/models/{GOOD}/validate", json=body)
        assert answer.status_code == 422, body
    before = (await gateway.get(f"/models/{GOOD}/validations")).json()
    for dataset, code in (
        ("s3://private/labelled", "bucket-not-allowed"),
        ("gs://labelled/prefix", "bucket-not-allowed"),
        ("http://127.0.0.1/labelled", "bad-url"),
        ("s3://labelled/../private", "bad-url"),
        ("runs:/nonsense", "bad-url"),
    ):
        answer = await gateway.post(f"/models/{GOOD}/validate", json={"dataset": dataset})
        assert answer.status_code == 422, dataset
        assert answer.json()["type"].endswith(f":{code}"), answer.text
        assert answer.json()["field"] == "dataset"
    assert (await gateway.get(f"/models/{GOOD}/validations")).json() == before
    answer = await gateway.post(f"/models/{GOOD}/validate", json={"compare_with": f"{NAME}:99"})
    assert answer.status_code == 404
    assert (await gateway.get(f"/validations/{uuid4()}")).status_code == 404
    assert (await gateway.get(f"/models/{GOOD}/validations?limit=0")).status_code == 422


@pytest.mark.monitoring
async def test_mlflow_gets_parameters_metrics_figures_and_the_data_set(
    own_settings, mlflow_server, store, fields
):
    """Also while it is away: what it has not got waits."""
    from mlflow.tracking import MlflowClient

    put_fields(store.bucket("labelled"), "tracked", fields[:3], "tracked")
    with_mlflow = own_settings.model_copy(update={"mlflow_uri": mlflow_server.url})
    tracking = MlflowClient(mlflow_server.url)
    async with serve(with_mlflow) as client:
        found = await validated(client, GOOD, dataset="s3://labelled/tracked")
        run_id = await logged(client, found["id"])
        run = tracking.get_run(run_id)
        assert run.data.params["model"] == GOOD
        assert run.data.params["dataset"] == "s3://labelled/tracked"
        for name, value in found["figures"].items():
            assert run.data.metrics[name] == pytest.approx(value)
        [given] = run.inputs.dataset_inputs
        assert given.dataset.name == "tracked"
        files = {file.path for file in tracking.list_artifacts(run_id, "figures")}
        assert files == {
            f"figures/{name}.png" for name in ("completeness", "precision_recall", "reliability")
        }

        # That data set is registered now, and can be named.
        again = await validated(client, GOOD, dataset=f"runs:/{run_id}/tracked")
        assert again["status"] == "complete", again["problem"]
        assert again["figures"] == pytest.approx(found["figures"])
        for dataset in (f"runs:/{run_id}/other", f"runs:/{'0' * 32}/tracked"):
            assert (await validated(client, GOOD, dataset=dataset))["status"] == "failed"

        # Killed, it hinders neither runs nor validations; then it catches up.
        mlflow_server.stop()
        exposure = npy(fields[0].image)
        answers = [await infer(client, exposure, {"model_version": 3}) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        later = await validated(client, GOOD)
        assert later["status"] == "complete", later["problem"]
        assert later["mlflow_run_id"] is None
        # As if all that had been some minutes ago: the minute that has begun is not logged yet.
        await client.get(f"/models/{GOOD}/performance")
        connection = await asyncpg.connect(own_settings.database_url.get_secret_value())
        await connection.execute("UPDATE performance SET minute = minute - interval '5 minutes'")
        await connection.close()
        await asyncio.to_thread(mlflow_server.start)
        assert await logged(client, later["id"])
        experiment = tracking.get_experiment_by_name(f"{NAME}-serving")
        query = f"tags.`astrotriton.served_version` = '{GOOD}'"
        async with asyncio.timeout(120):
            while True:
                runs = tracking.search_runs([experiment.experiment_id], query)
                if runs and "runs" in runs[0].data.metrics:
                    break
                await asyncio.sleep(0.5)
        [served] = runs
        history = tracking.get_metric_history(served.info.run_id, "runs")
        assert sum(point.value for point in history) == 5
        assert len({point.step for point in history}) == len(history)
        assert served.data.params["card_digest"]
        assert "request_seconds_p50" in served.data.metrics


async def logged(client: httpx.AsyncClient, validation_id: str) -> str:
    async with asyncio.timeout(180):
        while True:
            found = (await client.get(f"/validations/{validation_id}")).json()
            if found["mlflow_run_id"] is not None:
                return found["mlflow_run_id"]
            await asyncio.sleep(0.2)


async def test_a_validation_whose_gateway_ends_is_stored_as_failed(own_settings, store, fields):
    put_fields(store.bucket("labelled"), "long", fields, "long")
    async with serve(own_settings) as client:
        asked = {"dataset": "s3://labelled/long"}
        begun = (await client.post(f"/models/{GOOD}/validate", json=asked)).json()
    async with serve(own_settings) as client:
        found = (await client.get(f"/validations/{begun['id']}")).json()
    assert found["status"] == "failed"
    assert "stopped" in found["problem"]["detail"]


def test_the_reference_holds_a_row_for_each_field(repository: Path, network: bytes, fields):
    baseline = Baseline.from_npz((repository / NAME / "3" / "baseline.npz").read_bytes())
    chosen = ValidationSet.from_fits((repository / NAME / "3" / "validation.fits").read_bytes())
    assert len(baseline.rows) == len(chosen.fields) == 4
    again = describe(validation.score(chosen.fields[1], load_card(), predictor(network)))
    np.testing.assert_allclose(baseline.rows[1], again, rtol=1e-4)
    for one, other in zip(chosen.fields, fields, strict=False):
        np.testing.assert_array_equal(np.isnan(one.image), np.isnan(other.image))
        np.testing.assert_allclose(one.transients.positions, other.transients.positions)
