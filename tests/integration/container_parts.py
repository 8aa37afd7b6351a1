"""A release of the chart whose pods Podman plays, and what a control plane and Helm do for it.

Containers, probes, memory, users and volumes are those of the rendered manifests and the images of
the Dockerfile (`containers.kube` lists what is changed). A cluster's part is played here: who is
ready, and so stands under a Service's name; in which order hooks run and pods are replaced.
"""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from containers.build import image
from containers.engine import Engine
from containers.kube import beside, config_maps, hook, labels_of, playable, pod_spec, selects
from containers.site import DATABASE, KEYS, PORTS, site_pods
from tests.chart.chart_parts import find, objects, scenario
from tests.integration.chart_servers import BUCKET, answers
from tests.integration.hosts import Lan, LanHost
from tests.integration.load_parts import looking

ACCESS_KEY, SECRET_KEY = "access-of-the-test", "secret-of-the-test"
_PROBE = 0.5
_PATIENCE = 240.0


def values_of(**more: Any) -> dict[str, Any]:
    """A small site without a GPU: the laptop's values, with two of each and servers beside it."""
    values = scenario("laptop")
    for part, target in (("gateway", "gateway"), ("triton", "triton-cpu"), ("promote", "export")):
        repository, _, tag = image(target).rpartition(":")
        values[part]["image"] = {"repository": repository, "tag": tag}
        values[part]["replicas"] = 2
    del values["promote"]["replicas"]
    values["gateway"] |= {"drainSeconds": 5, "shutdownSeconds": 20}
    values["triton"] |= {"drainSeconds": 15}
    changed = {
        "repository": {"location": f"s3://{BUCKET}/astrotriton"},
        "s3": {
            "endpoint": f"http://s3:{PORTS['s3']}",
            "region": "us-east-1",
            "existingSecret": KEYS,
        },
        "postgresql": {"existingSecret": "astrotriton-database"},
        "nats": {"url": f"nats://nats:{PORTS['nats']}"},
        "mlflow": {"trackingUri": f"http://mlflow:{PORTS['mlflow']}"},
        "checkSecret": "astrotriton-check",
    }
    for name, value in (*changed.items(), *more.items()):
        # As Helm does: what is given changes what is there, and leaves the rest of it.
        values[name] = values[name] | value if name in more and name in values else value
    return values


class Pod:
    """One pod, which Podman plays, on a host of its own.

    Parameters
    ----------
    engine
        Podman.
    lan
        Where it gets an address.
    one
        The Pod, Deployment or Job that it is of.
    name
        Its own.
    """

    def __init__(self, engine: Engine, lan: Lan, one: dict[str, Any], name: str) -> None:
        self._engine, self._lan = engine, lan
        self.of, self.name = one, name
        self.spec, self.labels = pod_spec(one), labels_of(one)
        self.container = self.spec["containers"][0]
        self.host: LanHost = lan.reserve()
        self.ready = self.leaving = False

    @property
    def url(self) -> str:
        """Where its HTTP is."""
        return f"http://{self.host.address}:{self.ports_of(self.container)['http']}"

    @property
    def address(self) -> str:
        """Where its gRPC is."""
        return f"{self.host.address}:{self.ports_of(self.container)['grpc']}"

    @staticmethod
    def ports_of(container: Mapping[str, Any]) -> dict[str, int]:
        """A container's ports by name."""
        return {one["name"]: one["containerPort"] for one in container.get("ports", [])}

    def begin(self, made: list[dict[str, Any]]) -> None:
        """Start it, those containers that run beside the others first; no probe is waited for."""
        documents = [
            *config_maps(self.spec, made),
            playable(self.of, self.name, self.host.names),
        ]
        play = ("kube", "play", "--network=none", "--start=false", "-")
        self._engine.podman(*play, content="\n---\n".join(map(json.dumps, documents)))
        infra = self._engine.podman("pod", "inspect", "--format={{.InfraContainerID}}", self.name)
        # The network is there before anything that uses it.
        self._engine.podman("start", infra)
        pid = self._engine.podman("inspect", "--format={{.State.Pid}}", infra)
        self._lan.adopt(self.host, int(pid))
        for name in beside(self.spec):
            self._engine.podman("start", self.name_of(name))
            (container,) = (one for one in self.spec["initContainers"] if one["name"] == name)
            deadline = time.monotonic() + _PATIENCE
            while not self._asked(container, "startupProbe"):
                assert time.monotonic() < deadline, self.logs(name)
                time.sleep(_PROBE)
        self._engine.podman("pod", "start", self.name)

    def name_of(self, container: str | None = None) -> str:
        """What Podman calls one of its containers: the first, unless told otherwise."""
        return f"{self.name}-{container or self.container['name']}"

    def probe(self, name: str) -> bool:
        """Whether a probe of the manifest succeeds."""
        return self._asked(self.container, name)

    def run(self, *command: str) -> str:
        """What a command prints that runs in it."""
        return self._engine.podman("exec", self.name_of(), *command)

    def run_anyway(self, *command: str) -> None:
        """Run a command in it that may be killed, and the container with it."""
        self._engine.podman("exec", self.name_of(), *command, check=False)

    def changes(self) -> list[str]:
        """What differs from its image."""
        return self._engine.podman("diff", self.name_of()).splitlines()

    def inspect(self) -> dict[str, Any]:
        """What Podman says of its container."""
        (found,) = json.loads(self._engine.podman("container", "inspect", self.name_of()))
        return dict(found)

    def logs(self, container: str | None = None) -> str:
        """What a container has printed."""
        return self._engine.logs(self.name_of(container))

    def wait(self) -> int:
        """The exit status of a container that ends by itself."""
        return int(self._engine.podman("wait", self.name_of(), patience=1200))

    def kill(self) -> None:
        """End its container by SIGKILL; Podman starts it again, as its manifest has it."""
        self._engine.podman("kill", "--signal=KILL", self.name_of())

    def stop(self) -> int:
        """End it as a kubelet does: preStop, SIGTERM, patience. Its exit status."""
        started = time.monotonic()
        if "lifecycle" in self.container:
            time.sleep(self.container["lifecycle"]["preStop"]["sleep"]["seconds"])
        left = self.spec.get("terminationGracePeriodSeconds", 30) - (time.monotonic() - started)
        self._engine.podman("stop", f"--time={max(1, int(left))}", self.name_of())
        return int(self.inspect()["State"]["ExitCode"])

    def remove(self) -> None:
        """Let nothing of it remain."""
        self._engine.podman("pod", "rm", "--force", "--time=0", self.name)

    def _asked(self, container: Mapping[str, Any], probe: str) -> bool:
        return answers(dict(container), probe, self.host, self.ports_of(container))


class ContainerRelease:
    """One release, the site that it lives on, and its control plane.

    Parameters
    ----------
    engine
        Podman.
    lan
        Where its pods are.
    tell
        Is told what happens.
    """

    def __init__(self, engine: Engine, lan: Lan, tell: Callable[[str], None]) -> None:
        self._engine, self._lan, self._tell = engine, lan, tell
        self.site: dict[str, Pod] = {}
        self.pods: list[Pod] = []
        self.made: list[dict[str, Any]] = []
        self.token = ""
        self._secrets: list[str] = []
        self._numbers = itertools.count(1)
        self._turn = itertools.count()

    @property
    def gateways(self) -> list[Pod]:
        """Those that are there, ready or not."""
        return self._component("gateway")

    @property
    def tritons(self) -> list[Pod]:
        """Those that are there, ready or not."""
        return self._component("triton")

    @property
    def database(self) -> str:
        """The URL of PostgreSQL as this machine reaches it."""
        return DATABASE.replace("@postgres", f"@{self.site['postgres'].host.address}")

    @property
    def nats(self) -> str:
        """The URL of NATS as this machine reaches it."""
        return self.of_site("nats", "nats")

    def of_site(self, name: str, scheme: str = "http") -> str:
        """Where a server of the site is, as this machine reaches it."""
        return f"{scheme}://{self.site[name].host.address}:{PORTS[name]}"

    def start_site(self) -> None:
        """PostgreSQL, NATS, the S3 store and MLflow, and the secrets that lead to them."""
        self.secret(KEYS, {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY})
        self.secret("astrotriton-database", {"url": DATABASE})
        for one in site_pods():
            name = one["metadata"]["name"]
            self.site[name] = Pod(self._engine, self._lan, one, name)
            self.site[name].begin([])
        self._publish()

    def secret(self, name: str, content: Mapping[str, str]) -> None:
        """What `kubectl create secret generic` does."""
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
        # Podman 4.3 takes values in JSON, and no Secret.
        self._engine.podman("secret", "create", name, "-", content=json.dumps(encoded))
        self._secrets.append(name)

    async def install(self, values: dict[str, Any]) -> None:
        """What `helm install` or `helm upgrade` does, and the controllers after it."""
        when = "pre-upgrade" if self.made else "pre-install"
        self.made = objects(values)
        hooks = [one for one in self.made if when in hook(one)]
        for one in sorted(hooks, key=_weight):
            await self.end(one)
        await self._roll_out()

    async def end(self, one: dict[str, Any]) -> str:
        """Run a Job, or the pod of a test, to its end; what it printed.

        Raises
        ------
        RuntimeError
            If it fails; it says what it printed.
        """
        pod = self._add(one)
        started = time.monotonic()
        try:
            await asyncio.to_thread(pod.begin, self.made)
            status = await asyncio.to_thread(pod.wait)
            said = await asyncio.to_thread(pod.logs)
        finally:
            await self._gone(pod)
        self._tell(f"{one['metadata']['name']}: {status} after {time.monotonic() - started:.0f} s")
        if status:
            raise RuntimeError(f"{pod.name} ended with {status}:\n{said[-6000:]}")
        return said

    async def promote(self) -> str:
        """Run the Job of the promotion."""
        return await self.end(find(self.made, "Job", self._job()))

    async def test(self) -> str:
        """What `helm test` does; what its pod printed."""
        return await self.end(find(self.made, "Pod", "-test"))

    def next_gateway(self) -> Pod | None:
        """The gateway whose turn it is, of those that are ready."""
        ready = [pod for pod in self.gateways if pod.ready and not pod.leaving]
        return ready[next(self._turn) % len(ready)] if ready else None

    async def until_ready(self) -> None:
        """Wait until every pod of the Deployments gets requests."""
        async with asyncio.timeout(_PATIENCE):
            while not all(pod.ready for pod in (*self.gateways, *self.tritons)):
                await asyncio.sleep(_PROBE)

    def controlled(self) -> AbstractAsyncContextManager[None]:
        """Keep asking who is ready, and tell everybody by the Services' names."""
        return looking(self._look, _PROBE)

    async def _look(self) -> None:
        pods = [*self.gateways, *self.tritons]
        found = await asyncio.gather(
            *(asyncio.to_thread(pod.probe, "readinessProbe") for pod in pods)
        )
        for pod, ready in zip(pods, found, strict=True):
            pod.ready = ready
        self._publish()

    def close(self) -> None:
        """End all of it."""
        for pod in (*self.pods, *self.site.values()):
            pod.remove()
        for name in self._secrets:
            self._engine.podman("secret", "rm", name)

    async def _roll_out(self) -> None:
        """Replace pods whose template has changed: one more before one less, as the chart says."""
        for one in self.made:
            if one["kind"] != "Deployment":
                continue
            assert one["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            name = one["metadata"]["name"]
            there = [pod for pod in self.pods if pod.of["metadata"]["name"] == name]
            old = [pod for pod in there if pod.of["spec"]["template"] != one["spec"]["template"]]
            for _ in range(one["spec"]["replicas"] - len(there)):
                await self._start(one)
            for pod in old:
                new = await self._start(one)
                async with asyncio.timeout(_PATIENCE):
                    while not new.ready:
                        await asyncio.sleep(_PROBE)
                await self.drain(pod)

    async def drain(self, pod: Pod) -> None:
        """Delete a pod: its address goes, and it ends as its manifest says.

        Raises
        ------
        RuntimeError
            If it had to be killed.
        """
        pod.leaving = True
        self._publish()
        status = await asyncio.to_thread(pod.stop)
        said = await asyncio.to_thread(pod.logs)
        await self._gone(pod)
        if status not in (0, 143):
            raise RuntimeError(f"{pod.name} ended with {status}:\n{said[-6000:]}")

    async def _start(self, one: dict[str, Any]) -> Pod:
        pod = self._add(one)
        await asyncio.to_thread(pod.begin, self.made)
        self._publish()
        return pod

    def _add(self, one: dict[str, Any]) -> Pod:
        name = f"{one['metadata']['name']}-{next(self._numbers)}"
        pod = Pod(self._engine, self._lan, one, name)
        self.pods.append(pod)
        return pod

    async def _gone(self, pod: Pod) -> None:
        await asyncio.to_thread(pod.remove)
        self.pods.remove(pod)

    def _component(self, name: str) -> list[Pod]:
        label = "app.kubernetes.io/component"
        return [
            pod
            for pod in self.pods
            if pod.labels.get(label) == name and pod.of["kind"] == "Deployment"
        ]

    def _job(self) -> str:
        (name,) = (
            one["metadata"]["name"]
            for one in self.made
            if one["kind"] == "Job" and "-promote-" in one["metadata"]["name"]
        )
        return str(name)

    def _publish(self) -> None:
        names = {name: [pod.host.address] for name, pod in self.site.items()}
        for one in self.made:
            if one["kind"] == "Service":
                early = one["spec"].get("publishNotReadyAddresses", False)
                names[one["metadata"]["name"]] = [
                    pod.host.address
                    for pod in self.pods
                    if selects(one, pod.labels) and not pod.leaving and (pod.ready or early)
                ]
        self._lan.resolve(names)


def _weight(one: Mapping[str, Any]) -> int:
    return int(one["metadata"]["annotations"].get("helm.sh/hook-weight", 0))


async def until_so(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that takes a question to a server."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():
            await asyncio.sleep(_PROBE)
