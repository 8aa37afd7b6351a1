import fcntl
import os
import subprocess
import threading

import msgspec
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from astrotriton.export import digests, triton_config
from astrotriton.export.errors import RepositoryError
from astrotriton.export.repository import Repository
from astrotriton.export.triton_config import PROFILES, build_config
from astrotriton.settings import ModelConfig
from tests.unit.export import samples

SETTINGS = ModelConfig(input_size=(64, 64))


def version(number, model=b"onnx"):
    files = {"model.onnx": model, "golden.npz": b"npz"}
    card = msgspec.structs.replace(
        samples.card(),
        version=number,
        digests={name: digests.of_bytes(content) for name, content in files.items()},
    )
    return card, files


def publish(root, number, model=b"onnx"):
    """Publish a version and list it with the one listed before; its folder."""
    repository = Repository(root)
    card, files = version(number, model)
    repository.publish(card, files)
    listed = [one for one in repository.listed("unet_small") if one != number]
    repository.list_versions(card, {number, *listed[-1:]}, SETTINGS, "cpu")
    return root / "unet_small" / str(number)


def config_of(root):
    config = triton.ModelConfig()
    return text_format.Parse((root / "unet_small" / "config.pbtxt").read_text(), config)


def content_of(root):
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_config_on_the_cpu():
    config = build_config(samples.card(), SETTINGS, "cpu", [7])
    assert (config.name, config.backend, config.max_batch_size) == ("unet_small", "onnxruntime", 32)
    assert [(i.name, list(i.dims)) for i in config.input] == [("image", [1, 64, 64])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("probability", [1, 64, 64])]
    [group] = config.instance_group
    assert (group.kind, group.count) == (triton.ModelInstanceGroup.KIND_CPU, 2)
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not config.dynamic_batching.max_queue_delay_microseconds
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert list(config.version_policy.specific.versions) == [7]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 2]


def test_config_has_the_further_outputs():
    card = msgspec.structs.replace(samples.card(), further_outputs={"flux": (-1, 2, 64, 64)})
    config = build_config(card, SETTINGS, "cpu", [7])
    outputs = [(one.name, list(one.dims)) for one in config.output]
    assert outputs == [("probability", [1, 64, 64]), ("flux", [2, 64, 64])]


def test_config_on_the_gpu():
    config = build_config(samples.card(), SETTINGS, "gpu", [7])
    [group] = config.instance_group
    assert group.kind == triton.ModelInstanceGroup.KIND_GPU
    batching = config.dynamic_batching
    assert list(batching.preferred_batch_size) == [8, 16, 32]
    assert batching.max_queue_delay_microseconds
    assert batching.default_queue_policy.max_queue_size
    assert batching.default_queue_policy.default_timeout_microseconds
    assert batching.default_queue_policy.allow_timeout_override
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8, 16, 32]


@pytest.mark.parametrize(("batch_size", "warmed"), [(1, [1]), (3, [1, 3]), (16, [1, 8, 16])])
def test_no_batch_is_larger_than_the_model_takes(batch_size, warmed):
    settings = ModelConfig(batch_size=batch_size)
    config = build_config(samples.card(), settings, "gpu", [1])
    assert all(size <= batch_size for size in config.dynamic_batching.preferred_batch_size)
    assert [warmup.batch_size for warmup in config.model_warmup] == warmed


@pytest.mark.parametrize(
    ("profile", "problem"), [(None, "cannot be read"), ("nonsense: 1", "no model configuration")]
)
def test_unfit_profile_is_named(tmp_path, monkeypatch, profile, problem):
    monkeypatch.setattr(triton_config, "PROFILES", tmp_path)
    if profile:
        (tmp_path / "cpu.pbtxt").write_text(profile)
    with pytest.raises(RepositoryError, match=problem):
        build_config(samples.card(), SETTINGS, "cpu", [1])


def test_publish_writes_a_whole_folder_that_anyone_may_read(tmp_path):
    folder = publish(tmp_path, 3)
    assert folder == tmp_path / "unet_small" / "3"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "golden.npz", "card.json"}
    assert {path.name for path in folder.parent.iterdir()} == {"3", "config.pbtxt"}
    assert Repository(tmp_path).read("unet_small", 3) == version(3)[0]
    assert folder.stat().st_mode & 0o755 == 0o755


def test_publishing_the_same_again_changes_nothing(tmp_path):
    publish(tmp_path, 3)
    before = content_of(tmp_path)
    publish(tmp_path, 3)
    assert content_of(tmp_path) == before


def test_other_content_under_a_published_version_is_refused(tmp_path):
    publish(tmp_path, 3)
    before = content_of(tmp_path)
    with pytest.raises(RepositoryError, match="with other digests"):
        publish(tmp_path, 3, b"other")
    assert content_of(tmp_path) == before


def test_the_version_before_stays_listed(tmp_path):
    listed = []
    for number in (1, 2, 3, 3, 1):
        publish(tmp_path, number)
        listed.append(list(config_of(tmp_path).version_policy.specific.versions))
    assert listed == [[1], [1, 2], [2, 3], [2, 3], [1, 3]]


def test_a_version_whose_folder_is_gone_is_not_listed(tmp_path):
    folder = publish(tmp_path, 1)
    folder.rename(tmp_path / "elsewhere")
    publish(tmp_path, 2)
    assert list(config_of(tmp_path).version_policy.specific.versions) == [2]


def test_serving_on_another_device_rewrites_the_config_alone(tmp_path):
    folder = publish(tmp_path, 1)
    before = content_of(folder)
    Repository(tmp_path).list_versions(version(1)[0], [1], SETTINGS, "gpu")
    assert config_of(tmp_path).instance_group[0].kind == triton.ModelInstanceGroup.KIND_GPU
    assert content_of(folder) == before


@pytest.mark.parametrize("file", ["model.onnx", "golden.npz", "card.json"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_folder_is_refused(tmp_path, file, damage):
    folder = publish(tmp_path, 1)
    if damage == "changed":
        (folder / file).write_bytes(b"rot")
    else:
        (folder / file).unlink()
    with pytest.raises(RepositoryError, match=f"{folder}.*export the version again"):
        Repository(tmp_path).read("unet_small", 1)
    with pytest.raises(RepositoryError):
        publish(tmp_path, 1)


def test_card_of_another_version_is_refused(tmp_path):
    folder = publish(tmp_path, 1)
    folder.rename(folder.with_name("2"))
    with pytest.raises(RepositoryError, match="is of unet_small version 1"):
        Repository(tmp_path).read("unet_small", 2)


def test_card_without_digests_is_refused(tmp_path):
    folder = publish(tmp_path, 1)
    card = msgspec.structs.replace(version(1)[0], digests={})
    (folder / "card.json").write_bytes(card.to_json())
    with pytest.raises(RepositoryError, match=r"no digest of golden\.npz, model\.onnx"):
        Repository(tmp_path).read("unet_small", 1)


def test_damaged_config_is_refused(tmp_path):
    publish(tmp_path, 1)
    (tmp_path / "unet_small" / "config.pbtxt").write_text("name: ")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt is damaged"):
        publish(tmp_path, 2)


def test_content_that_does_not_match_its_card_never_appears(tmp_path):
    card, files = version(1)
    with pytest.raises(RepositoryError, match=r"model\.onnx is damaged"):
        Repository(tmp_path).publish(card, {**files, "model.onnx": b"rot"})
    assert not (tmp_path / "unet_small" / "1").exists()


def test_what_a_killed_publisher_left_is_swept(tmp_path):
    leftover = tmp_path / "unet_small" / ".1-part"
    leftover.mkdir(parents=True)
    (leftover / "model.onnx").write_bytes(b"hal")
    publish(tmp_path, 1)
    assert not leftover.exists()


def test_publishers_take_turns(tmp_path):
    model = tmp_path / "unet_small"
    model.mkdir()
    held = os.open(model, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    second = threading.Thread(target=publish, args=(tmp_path, 1))
    second.start()
    second.join(0.2)
    assert not (model / "1").exists()
    os.close(held)
    second.join(10)
    assert (model / "1" / "card.json").exists()


def test_card_without_a_version_is_not_published(tmp_path):
    with pytest.raises(ValueError, match="only a registered model"):
        publish(tmp_path, None)


def test_config_for_tensorrt():
    config = build_config(samples.card(), SETTINGS, "tensorrt", [7])
    assert config.instance_group[0].kind == triton.ModelInstanceGroup.KIND_GPU
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["precision_mode"] == "FP16"
    assert accelerator.parameters["trt_engine_cache_enable"] == "true"


def test_plan_is_built_for_the_tiles_of_the_card(tmp_path):
    """What the build job asks of TensorRT, which is not here to answer."""
    folder = publish(tmp_path / "models", 3)
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\nfor one in "$@"; do last=${one#--saveEngine=}; done\n'
        'for one in "$@"; do echo "$one"; done > "$last"\n'
    )
    tool.chmod(0o755)
    subprocess.run(
        [PROFILES / "build-plan.sh", folder, tmp_path / "plans", "16"],
        check=True,
        env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"},
    )
    made = tmp_path / "plans" / "unet_small" / "3"
    assert {path.name for path in made.iterdir()} == {"model.plan", "golden.npz", "card.json"}
    asked = (made / "model.plan").read_text().splitlines()
    assert asked[:5] == [
        f"--onnx={folder}/model.onnx",
        "--fp16",
        "--minShapes=image:1x1x64x64",
        "--optShapes=image:8x1x64x64",
        "--maxShapes=image:16x1x64x64",
    ]
