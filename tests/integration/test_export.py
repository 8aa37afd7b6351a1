"""Registry to repository, on a real MLflow server."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from mlflow.models import Model
from mlflow.tracking import MlflowClient

from astrotriton.cli import main
from astrotriton.detection.card import UNetModel
from astrotriton.export import convert, onnx_graph, registry
from astrotriton.export.errors import (
    ExportError,
    GateError,
    RegistryError,
    RepositoryError,
    UnknownVersionError,
)
from astrotriton.export.pipeline import export, read_manifest
from astrotriton.export.repository import Repository
from astrotriton.export.triton_config import listed_in
from astrotriton.settings import ModelConfig
from tests.integration.monitoring_parts import MlflowServer
from tests.unit.export import samples

SETTINGS = ModelConfig(input_size=(64, 64))


def golden_tiles(card):
    return {"simulated": samples.tiles()}


def run(uri, root, **others):
    return export(uri, root, SETTINGS, golden_tiles, profile="cpu", **others)


def unneeded(*_):
    raise AssertionError("a published version was converted again")


def content_of(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Server(NamedTuple):
    address: str
    artifacts: Path


@pytest.fixture(scope="module")
def server(mlflow_server: MlflowServer) -> Server:
    return Server(mlflow_server.url, mlflow_server.artifacts)


@pytest.fixture(autouse=True)
def tracking(server):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.address)
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def model():
    return samples.unet()


@pytest.fixture
def name(request):
    """A registered model of the test's own."""
    return "".join(c if c.isalnum() else "_" for c in request.node.name)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "model_repository"


def test_registered_model_becomes_a_served_folder(name, model, root):
    assert registry.register(model, samples.card(name)) == 1
    steps = []

    exported = run(f"models:/{name}/latest", root, on_progress=steps.append)

    assert (exported.version, exported.published_before) == (1, False)
    assert exported.location == f"{root}/{name}/1"
    assert [step.split()[0] for step in steps] == [
        "loading",
        "converting",
        "checking",
        "comparing",
        "publishing",
    ]
    card = Repository(root).read(name, 1)
    folder = root / name / "1"
    assert card == exported.card
    assert (card.name, card.version) == (name, 1)
    with np.load(folder / "golden.npz") as golden:
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        answer = session.run(["probability"], {"image": golden["image"]})[0]
        assert np.abs(answer - golden["probability"]).max() < 1e-4
    made_of = onnx_graph.metadata((folder / "model.onnx").read_bytes())
    assert made_of["model_version"] == "1"
    assert made_of["source_digest"] == registry.resolve(f"models:/{name}/1").digest


def test_run_holds_card_metrics_and_parity(name, model, root):
    registry.register(model, samples.card(name))
    exported = run(f"models:/{name}/1", root)

    run_id = registry.resolve(f"models:/{name}/1").run_id
    data = MlflowClient().get_run(run_id).data
    assert data.metrics["average_precision"] == 0.9
    assert data.metrics["parity_simulated_max_abs"] < 1e-4
    assert data.params["overlap"] == "16"
    published = UNetModel.from_json(mlflow.artifacts.load_text(f"runs:/{run_id}/export/card.json"))
    assert published == exported.card
    manifest = read_manifest(registry.resolve(f"models:/{name}/1"), Repository(root))
    assert manifest == exported.manifest
    assert [gate.name for gate in manifest.gates] == ["onnx", "parity", "batch", "answers"]
    assert (manifest.exporter, manifest.warnings) == ("tf2onnx", [])
    assert not manifest.blessed


def test_signature_and_figures_are_on_the_versions_page(name, model, root):
    registry.register(model, samples.card(name))
    run(f"models:/{name}/1", root)
    logged = Model.load(f"models:/{name}/1")
    assert [one.shape for one in logged.signature.inputs.inputs] == [(-1, 64, 64, 1)]
    [example] = logged.load_input_example(f"models:/{name}/1").values()
    assert (example.shape, round(float(example.std()), 1)) == ((1, 64, 64, 1), 1.0)
    registered = registry.resolve(f"models:/{name}/1")
    metrics = MlflowClient().get_logged_model(registered.model_id).metrics
    found = {one.key: one.value for one in metrics}
    assert found["parity_simulated_max_abs"] < 1e-4
    assert found["seconds/converted"] > 0.0


def test_a_name_of_dots_and_blanks_is_served_under_one_without_blanks(name, model, root, command):
    mine, served = f"{name} v1.2 (mine)", f"{name}_v1.2__mine_"
    assert registry.register(model, samples.card(mine)) == 1
    assert registry.register(model, samples.card(mine)) == 1
    for uri in (f"models:/{mine}/1", f"{mine}/latest", f"models:/{served}/1"):
        registered = registry.resolve(uri)
        assert (registered.name, registered.version) == (served, 1)
        assert registered.uri == f"models:/{mine}/1"

    exported = run(f"models:/{mine}/1", root)
    assert exported.location == f"{root}/{served}/1"
    assert Repository(root).read(served, 1).name == served
    assert listed_in((root / served / "config.pbtxt").read_bytes()) == [1]
    assert run(f"models:/{served}/1", root).published_before

    assert registry.move_aliases(served, {"champion": 1}) == {}
    assert registry.resolve(f"models:/{mine}@champion").version == 1
    assert registry.aliases(served) == registry.aliases(mine) == {"champion": 1}
    registry.set_tags(registered, {"survey": "ZTF"})
    assert registry.versions(served)[0].tags == {"survey": "ZTF"}
    assert registry.seconds_taken(served)["converted"]
    assert f'"name": "{served}"' in command("card", "show", f"{mine}/1").output

    with pytest.raises(RegistryError, match="would be served as"):
        registry.register(model, samples.card(served))


@pytest.fixture
def command(server, tmp_path, monkeypatch):
    """Runs the command line beside this MLflow."""
    monkeypatch.setenv("ASTROTRITON_DATA", str(tmp_path / "no_stack_here"))
    monkeypatch.setenv("ASTROTRITON_INPUT_SIZE", "[64, 64]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_file_and_its_card_are_registered_by_one_command(name, model, command, tmp_path):
    model.save(tmp_path / "net.keras")
    (tmp_path / "card.toml").write_text('threshold = 0.4\n[output]\nname = "probability"\n')
    wanted = ("register", tmp_path / "net.keras", "--card", tmp_path / "card.toml", "--name", name)
    tried = json.loads(command(*wanted, "--dry-run", "--json").stdout)
    assert tried["card"]["input"]["shape"] == [-1, 1, 64, 64]
    assert "no version of" in command("card", "show", f"{name}/1", code=2).output
    assert json.loads(command(*wanted, "--json").stdout)["version"] == 1
    assert json.loads(command(*wanted, "--json").stdout)["version"] == 1
    assert f"astrotriton verify models:/{name}/1" in command(*wanted).stdout

    shown = command("card", "show", f"{name}/1").stdout
    assert json.loads(shown)["threshold"] == 0.4
    (tmp_path / "other.json").write_text(shown.replace("0.4", "0.6"))
    assert (
        "threshold: 0.4 -> 0.6"
        in command("card", "diff", f"{name}/1", tmp_path / "other.json").stdout.splitlines()
    )
    assert "is a card of" in command("card", "check", tmp_path / "other.json").stdout
    (tmp_path / "other.json").write_text(shown.replace("threshold", "treshold"))
    assert "'threshold'" in command("card", "check", tmp_path / "other.json", code=1).output
    assert "no activation" not in command(*wanted[:2], "--name", name).output

    # What is there already, by the URI of the run that logged it.
    run_id = registry.resolve(f"models:/{name}/1").run_id
    assert registry.resolve(f"runs:/{run_id}/model").uri == f"models:/{name}/1"
    logged = MlflowClient().get_model_version(name, "1").source
    assert re.fullmatch(r"models:/m-\w+", logged)
    assert registry.resolve(logged).uri == f"models:/{name}/1"
    again = ("register", f"runs:/{run_id}/model", *wanted[2:], "--json")
    found = json.loads(command(*again).stdout)
    assert registry.resolve(f"models:/{name}/{found['version']}").digest
    assert "cannot read runs:/none/model" in command("register", "runs:/none/model", code=1).output


@pytest.mark.export
def test_registering_the_same_again_is_the_same_version(name, model):
    card = samples.card(name)
    assert registry.register(model, card) == 1
    assert registry.register(model, card) == 1
    loaded = registry.load_keras(registry.resolve(f"models:/{name}/1"))
    assert registry.register(loaded, card) == 1
    assert registry.register(samples.unet(seed=2), card) == 2


def test_alias_latest_and_number_resolve_to_a_number(name, model):
    registry.register(model, samples.card(name))
    registry.register(samples.unet(seed=2), samples.card(name))
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    assert registry.resolve(f"models:/{name}@champion").version == 1
    assert registry.resolve(f"models:/{name}/latest").version == 2
    assert registry.resolve(f"models:/{name}/1").uri == f"models:/{name}/1"
    assert registry.load_card(registry.resolve(f"models:/{name}/2")).version == 2


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("models:/nobody/latest", "has no version of 'nobody'"),
        ("models:/nobody/3", "has no version of 'nobody'"),
        ("models:/nobody@champion", "has no version of 'nobody'"),
        ("runs:/abc/model", "no version is registered of runs:/abc/model: astrotriton register"),
        ("models:/m-0123", "MLflow has no models:/m-0123"),
        ("models:/../7", "names no registered model"),
        ("models:/nobody/0", "names no registered model"),
    ],
)
def test_unknown_version_is_named(uri, problem):
    with pytest.raises(UnknownVersionError, match=problem):
        registry.resolve(uri)


def test_unreachable_registry_is_named():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    mlflow.set_tracking_uri(address)
    with pytest.raises(RegistryError, match=f"MLflow at {address} cannot be reached"):
        registry.resolve("models:/unet_small/1")


@pytest.mark.export
def test_published_version_is_answered_without_converting(name, model, root):
    registry.register(model, samples.card(name))
    first = run(f"models:/{name}/1", root)
    before = content_of(root)

    again = export(
        f"models:/{name}/latest", root, SETTINGS, unneeded, profile="cpu", converter=unneeded
    )

    assert again.published_before
    assert (again.location, again.card) == (first.location, first.card)
    assert content_of(root) == before


@pytest.mark.export
def test_published_version_is_answered_without_tensorflow(name, model, root, server):
    registry.register(model, samples.card(name))
    run(f"models:/{name}/1", root)
    script = f"""
import sys
from pathlib import Path
from astrotriton.settings import ModelConfig
from astrotriton.export.pipeline import export, read_manifest
from astrotriton.export.repository import Repository

settings = ModelConfig(input_size=(64, 64), enable_gpu=False)
exported = export("models:/{name}/1", Path({str(root)!r}), settings, lambda card: {{}})
assert exported.published_before
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.address}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, env=environment)


@pytest.mark.export
def test_next_version_joins_the_one_before(name, model, root):
    for seed in (1, 2):
        registry.register(samples.unet(seed=seed), samples.card(name))
        run(f"models:/{name}/latest", root)
    assert {path.name for path in (root / name).iterdir()} == {"1", "2", "config.pbtxt"}
    assert "versions: 1\n" in (text := (root / name / "config.pbtxt").read_text())
    assert "versions: 2\n" in text


@pytest.mark.export
def test_parity_failure_leaves_the_repository_unchanged(name, model, root):
    registry.register(model, samples.card(name))
    run(f"models:/{name}/1", root)
    registry.register(samples.unet(seed=2), samples.card(name))
    before = content_of(root)

    def perturbing(*source):
        return samples.perturbed(convert.convert(*source), by=0.01)

    with pytest.raises(GateError, match="refused by parity") as refused:
        run(f"models:/{name}/2", root, converter=perturbing)

    assert refused.value.manifest.figures["parity_simulated_max_abs"] > 1e-4
    assert content_of(root) == before
    assert {path.name for path in (root / name).iterdir()} == {"1", "config.pbtxt"}


@pytest.mark.export
def test_damaged_folder_is_refused_even_if_published_before(name, model, root):
    registry.register(model, samples.card(name))
    run(f"models:/{name}/1", root)
    folder = root / name / "1"
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-200] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(RepositoryError, match=r"model\.onnx is damaged"):
        run(f"models:/{name}/1", root)


@pytest.mark.export
def test_folder_of_another_registry_is_refused(name, model, root):
    registry.register(model, samples.card(name))
    run(f"models:/{name}/1", root)
    MlflowClient().delete_registered_model(name)
    assert registry.register(samples.unet(seed=3), samples.card(name)) == 1
    with pytest.raises(RepositoryError, match="was exported from another model"):
        run(f"models:/{name}/1", root)


@pytest.mark.export
def test_model_that_something_else_registered_is_exported_once(name, model, root):
    import mlflow.keras

    with mlflow.start_run():
        mlflow.log_text(samples.card(name).to_json().decode(), "card.json")
        mlflow.keras.log_model(
            model, name="model", registered_model_name=name, pip_requirements=["keras"]
        )
    assert not run(f"models:/{name}/1", root).published_before
    assert run(f"models:/{name}/1", root, converter=unneeded).published_before


@pytest.mark.export
def test_tensorflow_flavour_is_exported(name, model, root):
    import mlflow.tensorflow

    with mlflow.start_run():
        mlflow.log_text(samples.card(name).to_json().decode(), "card.json")
        mlflow.tensorflow.log_model(
            model, name="model", registered_model_name=name, pip_requirements=["keras"]
        )
    exported = run(f"models:/{name}/1", root)
    assert exported.manifest.figures["parity_simulated_max_abs"] < 1e-4


@pytest.mark.export
def test_saved_model_is_exported_as_it_is(name, model, root):
    import mlflow.tensorflow
    import tensorflow as tf

    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((None, 64, 64, 1), tf.float32, name="tiles")])
        def __call__(self, tiles):
            return {"mask": self.model(tiles, training=False)}

    served = Served()
    with mlflow.start_run():
        mlflow.log_text(samples.card(name).to_json().decode(), "card.json")
        mlflow.tensorflow.log_model(
            served,
            name="model",
            registered_model_name=name,
            pip_requirements=["tensorflow"],
            saved_model_kwargs={"signatures": served.__call__},
        )
    run(f"models:/{name}/1", root)
    answer = onnxruntime.InferenceSession(root / name / "1" / "model.onnx").run(
        ["probability"], {"image": samples.tiles(2)}
    )[0]
    expected = model(samples.tiles(2).transpose(0, 2, 3, 1), training=False).numpy()
    assert np.abs(answer - expected.transpose(0, 3, 1, 2)).max() < 1e-5
    assert run(f"models:/{name}/1", root, converter=unneeded).published_before


@pytest.mark.export
def test_model_of_another_flavour_is_named(name):
    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model",
            python_model=Constant(),
            registered_model_name=name,
            pip_requirements=["mlflow"],
        )
    registered = registry.resolve(f"models:/{name}/1")
    with pytest.raises(RegistryError, match=r"flavours \['python_function'\], not with keras"):
        registry.load_keras(registered)
    with pytest.raises(RegistryError, match=r"has no card\.json"):
        registry.load_card(registered)


@pytest.mark.export
def test_weights_that_do_not_load_are_an_error(name, model, server, root):
    registry.register(model, samples.card(name))
    model_id = MlflowClient().get_model_version(name, "1").source.removeprefix("models:/")
    [stored] = server.artifacts.glob(f"**/{model_id}/**/model.keras")

    stored.write_bytes(b"not a model")
    with pytest.raises(RegistryError, match=f"cannot load models:/{name}/1"):
        run(f"models:/{name}/1", root)

    samples.unet(seed=4).save(stored)
    with pytest.raises(ExportError, match="is not what was registered"):
        run(f"models:/{name}/1", root)
    assert not root.exists()


@pytest.mark.export
def test_contradicting_tile_size_is_refused(name, model, root):
    registry.register(model, samples.card(name))
    with pytest.raises(ExportError, match=r"ASTROTRITON_INPUT_SIZE='\[64, 64\]'"):
        export(f"models:/{name}/1", root, ModelConfig(), golden_tiles, profile="cpu")
    assert not root.exists()
