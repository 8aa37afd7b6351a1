"""Several hosts on one machine: network namespaces with addresses of their own, on one bridge."""

import contextlib
import os
import random
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_NAMES = Path("/etc/netns")
_NAMESPACES = Path("/run/netns")
_NAMES_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Host:
    """Where servers run: this machine, or a namespace of it.

    Attributes
    ----------
    address
        What they listen on.
    enter
        The words before a command that run it there.
    """

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


LOOPBACK = Host()


@dataclass(frozen=True, slots=True)
class LanHost(Host):
    """A host of a `Lan`.

    Attributes
    ----------
    namespace
        Of `ip netns`.
    port
        The bridge's end of its cable.
    """

    namespace: str = ""
    port: str = ""

    @property
    def names(self) -> Path:
        """Its file of hosts."""
        return _NAMES / self.namespace / "hosts"

    def cut(self) -> None:
        """Nothing reaches it or leaves it, and nobody is told."""
        _ip("link", "set", self.port, "down")

    def join(self) -> None:
        """End `cut`."""
        _ip("link", "set", self.port, "up")

    def slow(self, kilobits: int) -> None:
        """What it is sent comes at so many kilobits a second."""
        rate = ("rate", f"{kilobits}kbit", "burst", "32kbit", "latency", "2s")
        _run("tc", "qdisc", "replace", "dev", self.port, "root", "tbf", *rate)

    def fast(self) -> None:
        """End `slow`."""
        _run("tc", "qdisc", "del", "dev", self.port, "root")


class Lan:
    """Hosts that reach each other and this machine, and know each other by name.

    Use as a context manager; what was made is removed at its end.
    """

    def __init__(self) -> None:
        self._tag = secrets.token_hex(3)
        self._bridge = f"at{self._tag}"
        self._net = f"10.{random.randint(64, 127)}.{random.randint(0, 255)}"
        self.address = f"{self._net}.1"
        self._hosts: list[LanHost] = []
        self._names: dict[str, Sequence[str]] = {}

    @staticmethod
    def missing() -> str | None:
        """What keeps this machine from having namespaces, if anything does."""
        name = f"at{secrets.token_hex(3)}"
        try:
            _ip("netns", "add", name)
            _ip("netns", "exec", name, "true")
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no network namespaces: {error}"
        finally:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "del", name)
        return None

    def __enter__(self) -> Self:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            # With the namespace its end of the cable goes, and with that the other. One that was
            # reserved may never have come to be.
            if (_NAMESPACES / host.namespace).exists():
                _ip("netns", "del", host.namespace)
            host.names.unlink()
            host.names.parent.rmdir()
        _ip("link", "del", self._bridge)
        with contextlib.suppress(OSError):
            _NAMES.rmdir()

    def host(self) -> LanHost:
        """One host more."""
        host = self.reserve()
        _ip("netns", "add", host.namespace)
        self._connect(host)
        return host

    def reserve(self) -> LanHost:
        """A host's address and names, before it is there: `adopt` makes it of what a pod has."""
        number = len(self._hosts) + 2
        namespace, port = f"at{self._tag}-{number}", f"at{self._tag}.{number}"
        host = LanHost(f"{self._net}.{number}", ("ip", "netns", "exec", namespace), namespace, port)
        host.names.parent.mkdir(parents=True)
        host.names.touch()
        self._hosts.append(host)
        self._tell(host)
        return host

    def adopt(self, host: LanHost, pid: int) -> None:
        """Let a reserved host be the network namespace of a process."""
        _ip("netns", "attach", host.namespace, str(pid))
        self._connect(host)

    def _connect(self, host: LanHost) -> None:
        cable = ("peer", "name", "eth0", "netns", host.namespace)
        _ip("link", "add", host.port, "type", "veth", *cable)
        _ip("link", "set", host.port, "master", self._bridge, "up")
        inside = ("-n", host.namespace)
        _ip(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip(*inside, "link", "set", device, "up")

    def resolve(self, names: Mapping[str, Sequence[str]]) -> None:
        """Let names stand for other addresses from now on, on every host."""
        if all(self._names.get(name) == addresses for name, addresses in names.items()):
            return
        self._names |= names
        for host in self._hosts:
            self._tell(host)

    def _tell(self, host: LanHost) -> None:
        lines = ["127.0.0.1 localhost"]
        lines += [f"{one} {name}" for name, found in self._names.items() for one in found]
        text = "\n".join(lines).encode() + b"\n"
        assert len(text) <= _NAMES_SIZE
        # In one write of the same file: a host that reads it must never see half of it.
        file = os.open(host.names, os.O_WRONLY)
        try:
            os.pwrite(file, text.ljust(_NAMES_SIZE, b"\n"), 0)
        finally:
            os.close(file)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
