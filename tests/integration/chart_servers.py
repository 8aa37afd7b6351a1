"""The servers of a release, started as the rendered manifests say.

Arguments, environment and probes are taken out of the manifests as they are. On this machine itself
ports are other, since it has one of each; in a namespace of its own a pod has the chart's.
"""

import contextlib
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import obstore

from tests.chart.chart_parts import find, pod_of, scenario
from tests.integration.gateway_parts import (
    ROOT,
    ObjectStoreServer,
    Process,
    TritonServer,
    free_port,
    triton_home,
)
from tests.integration.hosts import LOOPBACK, Host
from tests.integration.stack_parts import wait_for

BUCKET = "models"
_TRITON_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


def put_repository(store: ObjectStoreServer, repository: Path) -> None:
    """Copy a model repository to where `values_of` says that it lies."""
    bucket = store.bucket(BUCKET)
    for path in repository.rglob("*"):
        if path.is_file():
            obstore.put(bucket, f"astrotriton/{path.relative_to(repository)}", path.read_bytes())


def values_of(store: ObjectStoreServer, **more: Any) -> dict[str, Any]:
    s3 = {"endpoint": store.url, "existingSecret": "s3", "region": "us-east-1"}
    return scenario("minimal") | {
        "enable_gpu": False,
        "repository": {"location": f"s3://{BUCKET}/astrotriton"},
        "s3": s3,
        "checkSecret": "check",
        "checks": {"drift": {"schedule": "0 6 * * *"}},
        **more,
    }


def container_of(one: dict[str, Any]) -> dict[str, Any]:
    pod = pod_of(one)
    assert pod is not None
    (container,) = pod["containers"]
    return container


def environment_of(
    container: dict[str, Any], made: list[dict[str, Any]], secrets: dict[str, str]
) -> dict[str, str]:
    """What a container sees, with the secrets by their key."""
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        environment |= find(made, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        environment[variable["name"]] = (
            variable["value"]
            if "value" in variable
            else secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
        )
    return environment


def replaced(text: str, addresses: dict[str, str]) -> str:
    for old, new in addresses.items():
        text = text.replace(old, new)
    return text


def quiet(environment: dict[str, str]) -> dict[str, str]:
    """Nothing of this machine's own settings but the path."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment


class ChartTriton(TritonServer):
    """Triton as a container of the chart has it, but for the backends, which its image brings."""

    def __init__(
        self,
        container: dict[str, Any],
        environment: Mapping[str, str],
        folder: Path,
        host: Host = LOOPBACK,
        **mounted: Path,
    ) -> None:
        super().__init__(folder, folder, host)
        self.container = container
        self._environment = environment
        # A sandbox has them too, and tells nobody.
        self.ports = ports_of(_TRITON_PORTS, host)
        self._elsewhere = {
            f"-port={port}": f"-port={self.ports[name]}" for name, port in _TRITON_PORTS.items()
        } | {f"=/{place}": f"={path}" for place, path in mounted.items()}
        self.address = f"{host.address}:{self.ports['grpc']}"

    def start(self) -> None:
        self.begin()
        probe = self.container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] > 120
        wait_for(lambda: self.probe("startupProbe"), "Triton", 120)

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        program, *arguments = self.container["args"]
        assert program == "tritonserver"
        arguments = [replaced(arg, self._elsewhere) for arg in arguments]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        at = self.host.address
        self.launch(
            [
                str(triton_home() / "bin" / program),
                *arguments,
                f"--backend-directory={self._backends}",
                *(f"--http-address={at}", f"--grpc-address={at}"),
            ],
            **self._environment,
            PATH=path,
            LD_LIBRARY_PATH=str(sysconfig.get_config_var("LIBDIR")),
        )

    def probe(self, name: str) -> bool:
        self.check()
        return answers(self.container, name, self.host, self.ports)


class ChartGateway(Process):
    """The gateway as the chart has it."""

    def __init__(
        self,
        made: list[dict[str, Any]],
        secrets: dict[str, str],
        addresses: dict[str, str],
        log: Path,
        host: Host = LOOPBACK,
    ) -> None:
        super().__init__(log, host)
        pod = pod_of(find(made, "Deployment", "-gateway"))
        assert pod is not None
        self.pod = pod
        (self.container,) = pod["containers"]
        own = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.ports = ports_of(own, host)
        environment = environment_of(self.container, made, secrets)
        if host == LOOPBACK:
            environment |= {
                "ASTROTRITON_HOST": host.address,
                "ASTROTRITON_PORT": str(self.ports["http"]),
                "ASTROTRITON_GRPC_PORT": str(self.ports["grpc"]),
            }
        self.environment = {name: replaced(text, addresses) for name, text in environment.items()}
        self.url = f"http://{host.address}:{self.ports['http']}"

    def __enter__(self) -> Self:
        self.begin()
        wait_for(lambda: self.probe("readinessProbe"), "the gateway", 120)
        return self

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        command = [sys.executable, "-m", "astrotriton.gateway", *self.container["args"]]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.enter, *command],
                env=quiet(self.environment),
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def probe(self, name: str) -> bool:
        self.check()
        return answers(self.container, name, self.host, self.ports)

    def leave(self) -> int:
        """Ask it to end, as the kubelet does."""
        return terminate(self, self.pod)


def terminate(server: Process, pod: dict[str, Any]) -> int:
    """What the kubelet does with a pod that is to go: preStop, SIGTERM, and patience with an end.

    Returns
    -------
    int
        Its exit status; minus the signal that ended it.

    Raises
    ------
    subprocess.TimeoutExpired
        If it would have been killed.
    """
    (container,) = pod["containers"]
    started = time.monotonic()
    if "lifecycle" in container:
        time.sleep(container["lifecycle"]["preStop"]["sleep"]["seconds"])
    left = pod["terminationGracePeriodSeconds"] - (time.monotonic() - started)
    return server.terminate(left)


def ports_of(own: Mapping[str, int], host: Host) -> dict[str, int]:
    """A container's ports by name: its own, or free ones where others live."""
    return {name: free_port() if host == LOOPBACK else port for name, port in own.items()}


def answers(container: dict[str, Any], probe: str, host: Host, ports: dict[str, int]) -> bool:
    """Whether a probe of the manifest succeeds."""
    get = container[probe]["httpGet"]
    with contextlib.suppress(httpx.TransportError):
        url = f"http://{host.address}:{ports[get['port']]}{get['path']}"
        patience = container[probe].get("timeoutSeconds", 1)
        return httpx.get(url, trust_env=False, timeout=patience).is_success
    return False


def run(
    container: dict[str, Any],
    environment: dict[str, str],
    change: Callable[[str], str] = lambda text: text,
) -> subprocess.CompletedProcess[str]:
    """Run a container of a Job or a test to its end."""
    program, *first = container.get("command", ["python", "-m", "astrotriton.gateway"])
    assert program == "python"
    arguments = [change(arg) for arg in container["args"]]
    return subprocess.run(
        [sys.executable, *first, *arguments],
        env=quiet({name: change(text) for name, text in environment.items()}),
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )
