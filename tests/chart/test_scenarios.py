"""Every scenario renders to objects that Kubernetes takes, and that are as safe as promised."""

import json
import os
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml

from astrotriton.gateway.settings import GatewaySettings
from tests.chart.chart_parts import (
    CHART,
    NAMESPACE,
    ROOT,
    SCENARIOS,
    SNAPSHOTS,
    find,
    objects,
    pod_of,
    readme_text,
    render,
    scenario,
    schema_text,
    snapshot,
)
from tests.integration.chart_servers import container_of, environment_of

SCHEMAS = SNAPSHOTS.parent / "schemas"
KUBERNETES = ("1.30", "1.34", kubernetes_validate.latest_version())
REMEDY = "run `make chart-snapshots` and look at the difference"

made = cache(lambda name: objects(scenario(name)))
each_scenario = pytest.mark.parametrize("name", SCENARIOS)


def pods(name: str) -> list[tuple[str, dict[str, Any]]]:
    found = ((one["metadata"]["name"], pod_of(one)) for one in made(name))
    return [(title, pod) for title, pod in found if pod is not None]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@each_scenario
def test_helm_lints_it_strictly(name):
    report = helm.lint(CHART, scenario(name), strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    # An icon is all that it may miss.
    assert [one for one in report["messages"] if "icon" not in one["error"]] == []


@each_scenario
@pytest.mark.chart
def test_kubernetes_knows_every_field(name):
    for one in made(name):
        group = one["apiVersion"].rpartition("/")[0]
        custom = SCHEMAS / f"{one['kind']}.{one['apiVersion'].replace('/', '.')}.json"
        if custom.exists():
            jsonschema.validate(one, json.loads(custom.read_text()))
            continue
        assert not group.endswith(("coreos.com", "keda.sh", "cnpg.io")), f"no schema of {custom}"
        for version in KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)


@each_scenario
def test_names_are_unique_and_of_this_release(name):
    names = [(one["kind"], one["metadata"]["name"]) for one in made(name)]
    assert len(set(names)) == len(names)
    for one in made(name):
        assert len(one["metadata"]["name"]) <= 63
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"


@each_scenario
def test_it_renders_as_it_did(name):
    assert snapshot(name) == (SNAPSHOTS / f"{name}.yaml").read_text(), REMEDY


def test_readme_and_schema_are_those_of_the_values():
    assert (CHART / "README.md").read_text() == readme_text(), REMEDY
    assert (CHART / "values.schema.json").read_text() == schema_text(), REMEDY


def test_the_schema_takes_no_unknown_key_anywhere():
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = {"global", "podSelector", "namespaceSelector", "ipBlock", "affinity", "valueFrom"}

    def look(place: str, part: Any) -> None:
        if not isinstance(part, dict):
            return
        if part.get("type") == "object" and place.rpartition(".")[2] not in free | {"items"}:
            assert "additionalProperties" in part, place
        for key in ("properties", "$defs"):
            for name, one in part.get(key, {}).items():
                if place.count(".") < 2 and key == "properties":
                    assert one.get("description") or "$ref" in one, f"{place}.{name}"
                look(f"{place}.{name}", one)
        look(f"{place}.items", part.get("items"))

    look("", schema)


@each_scenario
def test_no_pod_may_do_more_than_it_must(name):
    for title, pod in pods(name):
        security = pod["securityContext"]
        assert pod["automountServiceAccountToken"] is False, title
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all("hostPath" not in volume for volume in pod.get("volumes", []))
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, title
            assert container["resources"]["limits"]["memory"], title
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, title
            assert not container["image"].endswith(":latest")
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
            assert mounts <= volumes, title


@each_scenario
def test_secrets_are_only_named(name):
    assert not [one for one in made(name) if one["kind"] == "Secret"]
    for _, pod in pods(name):
        for container in containers(pod):
            for variable in container.get("env", []):
                secret = variable["name"].endswith(("PASSWORD", "TOKEN", "KEY", "DATABASE_URL"))
                assert not (secret and "value" in variable), variable["name"]


@each_scenario
def test_nothing_is_reached_that_no_policy_allows(name):
    policies = [one for one in made(name) if one["kind"] == "NetworkPolicy"]
    deny = find(policies, "NetworkPolicy", "default-deny")["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in deny
    wanted = deny["podSelector"]["matchLabels"].items()
    for one in made(name):
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            labels = one["spec"]["template"]["metadata"]["labels"]
        elif one["kind"] == "Pod":
            labels = one["metadata"]["labels"]
        else:
            continue
        assert wanted <= labels.items(), one["metadata"]["name"]
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], f"{policy['metadata']['name']} lets everyone in"


@each_scenario
def test_services_and_budgets_select_the_pods_that_are_there(name):
    templates = [
        one["spec"]["template"]["metadata"]["labels"].items()
        for one in made(name)
        if one["kind"] in ("Deployment", "StatefulSet")
    ]
    for one in made(name):
        if one["kind"] == "Service":
            selector = one["spec"]["selector"]
        elif one["kind"] in ("PodDisruptionBudget", "Deployment", "StatefulSet"):
            selector = one["spec"]["selector"]["matchLabels"]
        else:
            continue
        matching = [labels for labels in templates if selector.items() <= labels]
        assert len(matching) == 1, f"{one['kind']} {one['metadata']['name']}"


@each_scenario
def test_a_pod_that_leaves_gets_the_time_that_it_needs(name):
    config = find(made(name), "ConfigMap", "-gateway")["data"]
    gateway = pod_of(find(made(name), "Deployment", "-gateway"))
    drain, shutdown = (
        int(config[f"ASTROTRITON_{one}"]) for one in ("DRAIN_DELAY", "SHUTDOWN_TIMEOUT")
    )
    # HTTP, gRPC and runs in the background end one after the other.
    assert gateway["terminationGracePeriodSeconds"] > drain + 3 * shutdown
    triton = pod_of(find(made(name), "Deployment", "-triton"))
    (server,) = triton["containers"]
    (exit_flag,) = [arg for arg in server["args"] if arg.startswith("--exit-timeout-secs=")]
    sleep = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The gateway looks names up every 10 s, and the DNS keeps them for 5 s.
    assert sleep > 10 + 5 - 1
    assert triton["terminationGracePeriodSeconds"] > sleep + int(exit_flag.partition("=")[2])


@each_scenario
def test_the_start_of_triton_may_last_as_long_as_the_values_say(name):
    values = scenario(name)
    deployment = find(made(name), "Deployment", "-triton")
    (server,) = pod_of(deployment)["containers"]
    probe = server["startupProbe"]
    seconds = values.get("triton", {}).get("startupSeconds", 1800)
    assert probe["periodSeconds"] * probe["failureThreshold"] >= seconds
    assert deployment["spec"]["progressDeadlineSeconds"] > seconds


def test_without_a_gpu_none_is_asked_for():
    (cpu,) = pod_of(find(made("cpu"), "Deployment", "-triton"))["containers"]
    (gpu,) = pod_of(find(made("gpu"), "Deployment", "-triton"))["containers"]
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_changed_setting_is_a_new_pod():
    values = scenario("minimal")
    before = find(objects(values), "Deployment", "-gateway")
    values["gateway"]["settings"] = {"max_runs": 3}
    after = find(objects(values), "Deployment", "-gateway")
    assert before["spec"]["template"] != after["spec"]["template"]
    triton = [find(made, "Deployment", "-triton") for made in (objects(values), made("minimal"))]
    assert triton[0] == triton[1]


def test_large_numbers_stay_whole_numbers():
    config = find(made("everything"), "ConfigMap", "-gateway")["data"]
    assert config["ASTROTRITON_MAX_BYTES"] == "1073741824"


def test_a_job_that_is_another_has_another_name():
    values = scenario("everything")
    jobs = []
    for model, batch in ((7, 16), (8, 16), (8, 32), (8, 32)):
        values["promote"]["model"] = f"models:/unet_astronomical/{model}"
        values["model"]["batchSize"] = batch
        jobs += [one for one in objects(values) if "-promote-" in one["metadata"]["name"]]
    names = [job["metadata"]["name"] for job in jobs]
    assert len(set(names)) == 3
    assert jobs[2] == jobs[3]


@pytest.mark.parametrize("canary", [0.1, "auto"])
def test_a_promotion_takes_a_share_or_a_canary_that_ends_by_itself(canary):
    values = scenario("everything")
    values["promote"]["canary"] = canary
    (job,) = (one for one in objects(values) if "-promote-" in one["metadata"]["name"])
    assert f"--canary={canary}" in containers(pod_of(job))[-1]["args"]


def test_rules_dashboard_and_flags_are_those_of_the_project():
    rules = find(made("everything"), "PrometheusRule", "demo-astrotriton")
    text = (ROOT / "monitoring" / "prometheus" / "rules.yaml").read_text()
    assert rules["spec"] == yaml.safe_load(text)
    dashboard = find(made("everything"), "ConfigMap", "-dashboard")["data"]["astrotriton.json"]
    text = (ROOT / "monitoring" / "grafana" / "dashboard.json").read_text()
    assert json.loads(dashboard) == json.loads(text)
    (server,) = pod_of(find(made("minimal"), "Deployment", "-triton"))["containers"]
    lines = (ROOT / "triton-config" / "server.flags").read_text().splitlines()
    assert {line for line in lines if line.startswith("--")} <= set(server["args"])


def test_scalers_and_replicas_do_not_fight():
    for suffix in ("-gateway", "-triton"):
        assert "replicas" not in find(made("everything"), "Deployment", suffix)["spec"]
        assert find(made("minimal"), "Deployment", suffix)["spec"]["replicas"] >= 1


@pytest.mark.parametrize(
    ("enabled", "hooks"), [(True, "post-install,pre-upgrade"), (False, "pre-install,pre-upgrade")]
)
def test_the_schema_is_migrated_before_gateways_that_need_it(enabled, hooks):
    values = scenario("minimal") | {"postgresql": {"existingSecret": "db"}}
    values["postgresql"]["trial"] = {"enabled": enabled}
    job = find(objects(values), "Job", "-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == hooks


@each_scenario
def test_the_notes_say_how_to_go_on(name):
    notes = render(scenario(name))["NOTES.txt"]
    assert "keys create" in notes
    assert "Nothing is served before" in notes or name in (
        "gpu",
        "tensorrt",
        "everything",
        "laptop",
    )


def test_the_packaged_chart_is_the_chart(tmp_path):
    archive = Path(helm.package(CHART, destination=tmp_path))
    values = scenario("everything")
    with helm.Chart.load(CHART) as chart, helm.Chart.load_archive(archive.read_bytes()) as packaged:
        assert packaged.version == chart.version
        made = [one.render(values, name="demo", namespace=NAMESPACE) for one in (chart, packaged)]
    assert made[0] == made[1]


@each_scenario
def test_the_gateway_takes_its_settings(name, monkeypatch):
    for one in [one for one in os.environ if one.startswith("ASTROTRITON_")]:
        monkeypatch.delenv(one)
    secrets = defaultdict(lambda: "postgresql://user@host/name")
    environment = environment_of(
        container_of(find(made(name), "Deployment", "-gateway")), made(name), secrets
    )
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    GatewaySettings()
