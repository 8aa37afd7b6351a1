"""What Helm renders, as `podman kube play` takes it: pods and ConfigMaps, and Services as names.

Podman 4.3 ignores what it does not know of a pod. What it would refuse or do wrongly is changed;
`CHANGED` lists all of that.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: What is changed of a manifest, and why.
CHANGED = {
    "kind": "Deployments and Jobs become Pods: each replica has an address of its own, and Podman"
    " knows no Job.",
    "ports": "Left out: Podman would publish them on the machine.",
    "startupProbe": "Left out, and asked from outside, as a kubelet does: Podman would run curl in"
    " the container, by a timer of systemd.",
    "livenessProbe": "As startupProbe.",
    "readinessProbe": "As startupProbe.",
    "lifecycle": "Left out: who stops the pod sleeps first. Podman 4.3 does not know preStop.",
    "/dev/shm": "Left out: each pod has 256 MiB of memory there. Podman 4.3 would mount a folder of"
    " the disk that root owns.",
    "initContainers": "Those that run beside the others become containers, and are started first:"
    " Podman would wait for their end.",
    "/etc/hosts": "Mounted: a Service is the names and addresses in it.",
}
#: Kinds that are not played: nobody here would heed them.
UNHEEDED = frozenset({"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"})

_LEFT_OUT = ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")
_SHM = "/dev/shm"


def pod_spec(one: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the pod that an object is or makes.

    Raises
    ------
    ValueError
        If it is none of Pod, Deployment and Job.
    """
    if one["kind"] == "Pod":
        return dict(one["spec"])
    if one["kind"] in ("Deployment", "Job"):
        return dict(one["spec"]["template"]["spec"])
    raise ValueError(f"no pod is made from a {one['kind']}")


def labels_of(one: Mapping[str, Any]) -> dict[str, str]:
    """The labels of the pod that an object is or makes."""
    of = one if one["kind"] == "Pod" else one["spec"]["template"]
    return dict(of["metadata"].get("labels", {}))


def beside(spec: Mapping[str, Any]) -> list[str]:
    """The names of the init containers that run beside the others."""
    return [one["name"] for one in spec.get("initContainers", []) if _runs_beside(one)]


def playable(one: Mapping[str, Any], name: str, hosts: Path) -> dict[str, Any]:
    """The Pod that Podman plays in place of an object.

    Parameters
    ----------
    one
        A Pod, Deployment or Job.
    name
        Of the pod.
    hosts
        The file that its containers see as ``/etc/hosts``.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    spec = copy.deepcopy(pod_spec(one))
    inits = spec.pop("initContainers", [])
    spec["containers"] = [*filter(_runs_beside, inits), *spec["containers"]]
    if first := [one for one in inits if not _runs_beside(one)]:
        spec["initContainers"] = first
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for container in (*spec["containers"], *first):
        container.pop("restartPolicy", None)
        for field in _LEFT_OUT:
            container.pop(field, None)
        mounts = container.get("volumeMounts", [])
        shared = [mount for mount in mounts if mount["mountPath"] == _SHM]
        for mount in shared:
            volumes.pop(mount["name"], None)
        container["volumeMounts"] = [
            *(mount for mount in mounts if mount not in shared),
            {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True},
        ]
    volumes["hosts"] = {"name": "hosts", "hostPath": {"path": str(hosts), "type": "File"}}
    spec["volumes"] = list(volumes.values())
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels_of(one)},
        "spec": spec,
    }


def config_maps(spec: Mapping[str, Any], made: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ConfigMaps that a pod's spec names, which Podman takes from beside the pod."""
    named = {one["configMap"]["name"] for one in spec.get("volumes", []) if "configMap" in one}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        sources = container.get("envFrom", [])
        named |= {one["configMapRef"]["name"] for one in sources if "configMapRef" in one}
    return [
        {"apiVersion": "v1", **one}
        for one in made
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] in named
    ]


def selects(service: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a Service is for pods with such labels."""
    return service["spec"]["selector"].items() <= labels.items()


def hook(one: Mapping[str, Any]) -> frozenset[str]:
    """When Helm makes an object; of what it applies with the others, an empty set."""
    told = one["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    return frozenset(filter(None, told.split(",")))


def _runs_beside(container: Mapping[str, Any]) -> bool:
    return container.get("restartPolicy") == "Always"
