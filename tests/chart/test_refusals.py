"""Values that would do harm are refused before anything is installed, with a word on what to do."""

import copy
from typing import Any

import helm_python as helm
import pytest

from tests.chart.chart_parts import objects, scenario

DIGEST = "sha256:" + "a" * 64


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    *parents, last = path.split(".")
    part = values
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        # A typing error must not pass for a default.
        ("replica", 3, "replica"),
        ("gateway.replica", 3, "replica"),
        ("gateway.settings", {"max_run": 3}, "max_run"),
        ("triton.resources", {"limits": None}, "limits"),
        ("triton.resources", {"limits": {"memory": None}}, "memory"),
        # Nobody in who doesn't belong.
        ("gateway.settings", {"auth": "off"}, "auth"),
        ("gateway.extraEnv", [{"name": "ASTROTRITON_AUTH", "value": "off"}], "extraEnv"),
        ("podSecurity.user", 0, "user"),
        ("s3.buckets", ["Nights"], "buckets"),
        # Secrets stay secret.
        ("postgresql.url", "postgresql://me:word@host/name", "url"),
        ("nats.url", "nats://token@host:4222", "url"),
        ("mlflow.trackingUri", "https://me:word@mlflow.example.org", "trackingUri"),
        ("s3.endpoint", "https://me:word@store.example.org", "endpoint"),
        # What runs is what was tried.
        ("gateway.image.tag", "latest", "tag"),
        ("triton.image.digest", "sha256:abc", "digest"),
        ("repository.versions", [{"version": 7}], "digest"),
        ("repository.versions", [{"version": 7, "digest": "7"}], "digest"),
        ("repository.versions", [{"version": 0, "digest": DIGEST}], "version"),
        ("triton.extraArgs", ["--model-control-mode=poll"], "extraArgs"),
        ("triton.extraArgs", ["--model-repository=/elsewhere"], "extraArgs"),
        ("model.version", "newest", "version"),
        ("model.profile", "openvino", "profile"),
        ("promote.model", "unet_astronomical/7", "model"),
        ("promote.precision", "fp8", "precision"),
        ("promote.canary", 0, "canary"),
        ("promote.canary", "automatic", "canary"),
        ("repository.location", "/srv/models", "location"),
        # Nothing is cut off.
        ("triton.drainSeconds", 0, "drainSeconds"),
        ("gateway.drainSeconds", 0, "drainSeconds"),
        ("triton.startupSeconds", 10, "startupSeconds"),
        ("triton.autoscaling.minReplicas", 0, "minReplicas"),
        ("gateway.replicas", 0, "replicas"),
        ("gateway.settings", {"max_runs": 0}, "max_runs"),
        ("gateway.settings", {"drift_window": "31d"}, "drift_window"),
        ("gateway.settings", {"drift_window": "10000m"}, "drift_window"),
        ("gateway.tmpSize", "8", "tmpSize"),
        ("checks.validate.schedule", "daily", "schedule"),
    ],
)
def test_the_schema_refuses(path, value, word):
    with pytest.raises(helm.HelmError, match=word):
        objects(changed(scenario("everything"), path, value))


@pytest.mark.parametrize(
    ("base", "path", "value", "message"),
    [
        ("minimal", "gateway.image.repository", "", "build the Dockerfile"),
        ("minimal", "repository.location", "", "repository.location is empty"),
        ("minimal", "postgresql.existingSecret", "", "postgresql.existingSecret is empty"),
        ("minimal", "nats.url", "", "nats: set url"),
        ("cpu", "model.profile", "tensorrt", "needs a GPU"),
        ("gpu", "repository.versions", [], "pin at least one version"),
        ("gpu", "promote.model", "models:/unet_astronomical/7", "needs repository.mode s3"),
        ("gpu", "repository.mode", "s3", "needs repository.mode pinned"),
        ("everything", "promote.existingSecret", "", "promote.existingSecret is empty"),
        ("everything", "promote.bootstrap", True, "leave canary and shadow out"),
        ("everything", "promote.shadow", 0.5, "not both"),
        ("everything", "promote.image.repository", "", "the Dockerfile, target export"),
        ("everything", "networkPolicy.from.gateway", [], "networkPolicy.from.gateway is empty"),
        ("everything", "networkPolicy.from.triton", [], "networkPolicy.from.triton is empty"),
        ("everything", "networkPolicy.from.metrics", [], "Prometheus could not come in"),
        ("everything", "mlflow.trackingUri", "", "mlflow.trackingUri"),
        ("everything", "triton.autoscaling.prometheus", "", "needs prometheus"),
        ("everything", "triton.autoscaling.minReplicas", 9, "minReplicas is above"),
        ("everything", "gateway.autoscaling.minReplicas", 9, "minReplicas is above"),
        ("everything", "ingress.tls", [], "API keys would cross the network in clear"),
        ("everything", "parentRefs", [], "need parentRefs"),
        ("everything", "gateway.grpc", False, "grpcRoute needs gateway.grpc"),
        ("everything", "checkSecret", "", "needs checkSecret"),
    ],
)
def test_the_chart_refuses(base, path, value, message):
    with pytest.raises(helm.HelmError, match=message):
        objects(changed(scenario(base), path, value))
