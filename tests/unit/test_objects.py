"""How a place in an object store is written, and what opens it."""

import os

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, S3Store
from pydantic import ValidationError

from astrotriton.detection.errors import InputError
from astrotriton.export.errors import RepositoryError
from astrotriton.export.store import Bucket, Folder, open_store
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.objects import Location, is_object_location, open_bucket, reason_of, was_refused


@pytest.mark.parametrize(
    ("text", "location", "shown", "store"),
    [
        ("s3://models", ("s3", "models", ""), "s3://models", "models"),
        ("s3://models/", ("s3", "models", ""), "s3://models", "models"),
        ("s3://models/a/b.c", ("s3", "models", "a/b.c"), "s3://models/a/b.c", "models"),
        ("s3://models/a/", ("s3", "models", "a/"), "s3://models/a", "models"),
        ("gs://models/a", ("gs", "models", "a"), "gs://models/a", "gs://models"),
        ("az://models/a", ("az", "models", "a"), "az://models/a", "az://models"),
    ],
)
def test_a_location_is_read(text, location, shown, store):
    found = Location.parse(text)
    assert tuple(found) == location
    assert (str(found), found.store) == (shown, store)
    assert is_object_location(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "s3",
            "s3://",
            "s3://a",
            "s3:///a",
            "s3://Models/a",
            "s3://models//a",
            "s3://models/a//b",
        ),
        *("s3://models/../a", "s3://models/a/..", "s3://models/./a", "s3://models/a\nb"),
        *("s3://me@models/a", "s3://127.0.0.1:80/a", "http://models/a", "file:///etc", "/etc"),
        "s3://models/" + "a" * 1024,
    ],
)
def test_what_is_no_location_is_refused(text):
    with pytest.raises(ValueError, match="give `s3://bucket/key`"):
        Location.parse(text)


@pytest.mark.parametrize(
    ("scheme", "kind"), [("s3", S3Store), ("gs", GCSStore), ("az", AzureStore)]
)
def test_each_kind_of_store_is_opened(scheme, kind, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "somebody")
    location = Location(scheme, "models", "")
    assert isinstance(open_bucket(location, timeout=1.0, endpoint="http://127.0.0.1:1"), kind)
    assert isinstance(open_store(f"{scheme}://models/a"), Bucket)


def test_a_repository_is_a_folder_or_lies_in_an_object_store(tmp_path):
    assert isinstance(open_store(tmp_path), Folder)
    with pytest.raises(RepositoryError, match="is no model repository: give a folder"):
        open_store("ftp://nowhere/models")
    with pytest.raises(RepositoryError, match="is no model repository: give `s3://bucket/key`"):
        open_store("s3://Models/a")


def test_an_endpoint_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(Exception, match=r"http://127\.0\.0\.1:1/models/a") as caught:
        obstore.get(open_bucket(Location("s3", "models", ""), timeout=1.0), "a")
    assert not was_refused(caught.value)
    assert "\n" not in reason_of(caught.value)


def test_settings_name_a_location_that_is_none():
    def settings(**given: str) -> GatewaySettings:
        return GatewaySettings(database_url="postgresql://nobody@127.0.0.1/none", **given)

    with pytest.raises(ValidationError, match=r"model_repository is 's3://models/\.\./a': give"):
        settings(model_repository="s3://models/../a")
    with pytest.raises(ValidationError, match="report_url"):
        settings(report_url="s3://reports")
    given = settings(model_repository="s3://models", report_url="gs://reports/drift")
    assert (given.repository_buckets, given.report_buckets) == (["models"], ["gs://reports"])
    assert settings(model_repository="models").repository_buckets == []


async def test_a_bucket_of_another_kind_is_another_bucket():
    objects = ObjectStore(["nights"], endpoint=None, region="auto", timeout=1.0)
    with pytest.raises(InputError) as refused:
        await objects.read("gs://nights/a", "exposure", 1)
    assert refused.value.code == "bucket-not-allowed"


async def test_a_name_is_checked_without_opening_its_bucket(monkeypatch):
    """One of Azure's without an account cannot be opened."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    objects = ObjectStore(["az://nights"], endpoint=None, region="auto", timeout=1.0)
    objects.check("az://nights/a", "dataset")
    with pytest.raises(DependencyError, match="az://nights cannot be opened"):
        await objects.read("az://nights/a", "dataset", 1)
    for url, code in (
        ("az://other/a", "bucket-not-allowed"),
        ("az://nights", "bad-url"),
        ("az://nights/a/", "bad-url"),
        ("a", "bad-url"),
    ):
        with pytest.raises(InputError) as refused:
            objects.check(url, "dataset")
        assert (refused.value.code, refused.value.field) == (code, "dataset"), url
