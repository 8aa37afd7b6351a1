"""What Podman plays in place of what Helm renders differs in what `CHANGED` lists, and no more."""

import copy
from pathlib import Path
from typing import Any

import pytest

from containers.kube import (
    CHANGED,
    UNHEEDED,
    beside,
    config_maps,
    hook,
    playable,
    pod_spec,
    selects,
)
from containers.site import PORTS, site_pods
from tests.chart.chart_parts import ROOT, find, objects
from tests.integration.container_parts import values_of

HOSTS = Path("/run/names")
PROMOTION = {"model": "models:/unet_astronomical/2", "bootstrap": True}


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return objects(values_of(promote=PROMOTION))


def test_every_object_of_a_small_site_is_played_or_known_to_be_unheeded(made):
    played = {"ConfigMap", "Deployment", "Job", "Pod", "Service"}
    assert {one["kind"] for one in made} == played | UNHEEDED


def test_a_pod_differs_in_what_is_listed_alone(made):
    seen: set[str] = set()
    makers = [one for one in made if one["kind"] in ("Deployment", "Job", "Pod")]
    assert len(makers) == 5
    for one in makers:
        before = copy.deepcopy(one)
        pod = playable(one, "name", HOSTS)
        assert one == before
        assert (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) == ("v1", "Pod", "name")
        was, now = pod_spec(one), pod["spec"]
        if one["kind"] != "Pod":
            seen.add("kind")
        inits, first = was.get("initContainers", []), now.get("initContainers", [])
        if moved := beside(was):
            seen.add("initContainers")
        assert [*(one["name"] for one in first), *moved] == [one["name"] for one in inits]
        for field in was.keys() - {"containers", "initContainers", "volumes"}:
            assert now[field] == was[field]
        for old, new in zip(
            [*inits, *was["containers"]], [*first, *now["containers"]], strict=True
        ):
            gone = old.keys() - new.keys()
            seen |= gone - {"restartPolicy"}
            assert gone <= CHANGED.keys() | {"restartPolicy"}
            for field in new.keys() - {"volumeMounts"}:
                assert new[field] == old[field]
            *mounts, last = new["volumeMounts"]
            assert last == {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True}
            shared = [mount for mount in old["volumeMounts"] if mount not in mounts]
            assert {mount["mountPath"] for mount in shared} <= {"/dev/shm"}
            seen |= {mount["mountPath"] for mount in shared} | {last["mountPath"]}
            assert {mount["name"] for mount in mounts} <= {one["name"] for one in now["volumes"]}
        gone_volumes = [volume for volume in was["volumes"] if volume not in now["volumes"]]
        assert all(volume["emptyDir"]["medium"] == "Memory" for volume in gone_volumes)
    assert seen == CHANGED.keys()


def test_hooks_and_what_runs_beside_are_told_apart(made):
    assert hook(find(made, "Job", "-migrate")) == {"pre-install", "pre-upgrade"}
    assert hook(find(made, "Pod", "-test")) == {"test"}
    (job,) = (one for one in made if "-promote-" in one["metadata"]["name"])
    assert hook(job) == frozenset()
    assert beside(pod_spec(job)) == ["sandbox"]


def test_a_pod_takes_the_config_maps_that_it_names(made):
    gateway = pod_spec(find(made, "Deployment", "-gateway"))
    (settings,) = config_maps(gateway, made)
    assert settings["metadata"]["name"] == "demo-astrotriton-gateway"
    (golden,) = config_maps(pod_spec(find(made, "Pod", "-test")), made)
    assert "golden.fits.gz" in golden["binaryData"]
    assert config_maps(pod_spec(find(made, "Deployment", "-triton")), made) == []


def test_a_service_selects_its_own_pods(made):
    labels = find(made, "Deployment", "-triton")["spec"]["template"]["metadata"]["labels"]
    chosen = [
        one["metadata"]["name"] for one in made if one["kind"] == "Service" and selects(one, labels)
    ]
    assert sorted(chosen) == ["demo-astrotriton-triton", "demo-astrotriton-triton-all"]


def test_an_object_without_a_pod_is_refused(made):
    with pytest.raises(ValueError, match="Service"):
        playable(find(made, "Service", "-gateway"), "name", HOSTS)


def test_the_servers_beside_are_as_confined_as_the_charts(made):
    chart = pod_spec(find(made, "Deployment", "-gateway"))["containers"][0]["securityContext"]
    for pod in site_pods():
        (container,) = pod["spec"]["containers"]
        assert chart.items() <= container["securityContext"].items()
        assert container["securityContext"]["runAsUser"] == 10001
        assert container["ports"] == [
            {"name": "client", "containerPort": PORTS[pod["metadata"]["name"]]}
        ]


def test_the_documents_list_what_is_changed():
    text = " ".join((ROOT / "docs" / "deploying.md").read_text().split())
    for what, why in CHANGED.items():
        assert f"| `{what}` | {why} |" in text
