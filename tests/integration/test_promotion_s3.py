"""A model repository in an S3 store, with a Triton that serves straight from it."""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import obstore
import onnxruntime
import pytest

from astrotriton.detection.quality.golden import Golden
from astrotriton.export import convert, digests, store
from astrotriton.export.errors import RepositoryError
from astrotriton.export.repository import Repository
from astrotriton.export.serving import Replica
from astrotriton.settings import ModelConfig
from astrotriton.stack.parts.s3 import bucket_at, s3
from astrotriton.stack.parts.triton import triton
from astrotriton.stack.process import Part, PartProcess
from astrotriton.stack.site import Addresses, Site
from tests.unit.export import samples

NAME = "unet_small"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8)


@contextlib.contextmanager
def running(folder: Path, describe: Callable[[Site], Part]) -> Iterator[Addresses]:
    """One part of the stack, for as long as the block runs."""
    with asyncio.Runner() as runner, contextlib.closing(_Held(Site(folder))) as held:
        process = runner.run(PartProcess.launch(describe(held.site), held.site))
        try:
            runner.run(process.until_ready())
            yield held.site.addresses
        finally:
            runner.run(process.stop())


class _Held:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.close = site.release


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    with (
        running(tmp_path_factory.mktemp("s3"), s3) as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", found.s3_access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", found.s3_secret_key)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", found.s3_url)
        yield found


@pytest.fixture
def location(addresses, request):
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"s3://{addresses.s3_bucket}/{name}/models"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return convert.convert(samples.unet(), samples.card(NAME), "ab12")


def version(number, content):
    tile = samples.tiles(1)
    answer = onnxruntime.InferenceSession(content).run(None, {"image": tile})[0]
    files = {"model.onnx": content, "golden.npz": Golden(tile, answer).to_npz()}
    card = msgspec.structs.replace(
        samples.card(NAME),
        version=number,
        digests={name: digests.of_bytes(file) for name, file in files.items()},
    )
    return card, files


def test_published_versions_are_served_from_the_store(location, addresses, content, tmp_path):
    repository = Repository(location)
    for number in (1, 2):
        card, files = version(number, content)
        assert repository.publish(card, files)
        assert not repository.publish(card, files)
        repository.list_versions(card, {1, number}, SETTINGS, "cpu")
        repository.attach(NAME, number, "manifest.json", b"{}")
    assert repository.versions(NAME) == repository.listed(NAME) == [1, 2]
    assert repository.read(NAME, 2) == card
    assert repository.file(NAME, 2, "manifest.json") == b"{}"

    def from_store(site: Site) -> Part:
        part = triton(site, tmp_path)
        where = f"s3://{addresses.s3_url}/{location.removeprefix('s3://')}"
        command = [
            f"--model-repository={where}" if one.startswith("--model-repository=") else one
            for one in part.command
        ]
        keys = {
            "AWS_ACCESS_KEY_ID": addresses.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": addresses.s3_secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return dataclasses.replace(part, command=command, environment={**part.environment, **keys})

    with (
        running(tmp_path / "triton", from_store) as serving,
        Replica(serving.triton_grpc) as replica,
    ):
        replica.load(NAME)
        assert replica.ready_versions(NAME) == [1, 2]
        for number in (1, 2):
            card, files = version(number, content)
            assert replica.check(card, files["golden.npz"]) < 1e-5
        repository.list_versions(card, {2}, SETTINGS, "cpu")
        replica.load(NAME)
        assert replica.ready_versions(NAME) == [2]
    with pytest.raises(RepositoryError, match="Triton serves it"):
        repository.remove(NAME, 2)
    repository.remove(NAME, 1)
    assert repository.versions(NAME) == [2]


def test_half_an_upload_is_no_version_and_is_repeated(location, content, monkeypatch):
    repository = Repository(location)
    card, files = version(1, content)

    class CutOffError(Exception):
        pass

    real = obstore.put
    put = []

    def put_one(objects, key, content, **options):
        if put:
            raise CutOffError
        put.append(key)
        return real(objects, key, content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", put_one)
        with pytest.raises(CutOffError):
            repository.publish(card, files)
    assert len(put) == 1
    assert repository.versions(NAME) == []
    assert not repository.holds(NAME, 1)
    assert repository.publish(card, files)
    assert repository.read(NAME, 1) == card


def test_damage_in_the_store_is_noticed(location, addresses, content):
    repository = Repository(location)
    card, files = version(1, content)
    repository.publish(card, files)
    key = f"{location.split('/', 3)[3]}/{NAME}/1/model.onnx"
    obstore.put(bucket_at(addresses), key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RepositoryError, match=r"model\.onnx is damaged"):
        repository.read(NAME, 1)
    with pytest.raises(RepositoryError, match=r"model\.onnx is damaged"):
        repository.publish(card, files)


def test_only_one_of_two_writers_wins(location, content):
    card, files = version(1, content)
    Repository(location).publish(card, files)
    key = f"{NAME}/config.pbtxt"
    outcomes = []
    barrier = threading.Barrier(4)

    def write(number):
        own = store.open_store(location)
        barrier.wait()
        try:
            own.replace(key, b"%d" % number, before=None)
            outcomes.append(number)
        except RepositoryError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [one for one in outcomes if one is not None]
    assert store.open_store(location).read(key) == b"%d" % winner
    with pytest.raises(RepositoryError, match="somebody else"):
        store.open_store(location).replace(key, b"late", before=b"something else")


def test_only_one_publisher_at_a_time_is_in(location, content):
    assert samples.most_inside(lambda: Repository(location).locked(NAME), workers=3, turns=3) == 1
    assert Repository(location).versions(NAME) == []


def test_store_that_cannot_be_reached_is_named(monkeypatch, content):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(RepositoryError, match="AWS_ENDPOINT_URL_S3"):
        Repository("s3://nowhere/models").listed(NAME)
    with pytest.raises(RepositoryError, match="give a folder"):
        Repository("ftp://nowhere/models")


def test_a_bucket_that_is_not_there_and_keys_that_are_refused_are_told(addresses, monkeypatch):
    with pytest.raises(RepositoryError, match=r"refuses .*: NoSuchBucket"):
        Repository("s3://nowhere/models").listed(NAME)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of somebody else")
    with pytest.raises(RepositoryError, match=r"refuses .*: SignatureDoesNotMatch"):
        Repository(f"s3://{addresses.s3_bucket}/models").listed(NAME)
