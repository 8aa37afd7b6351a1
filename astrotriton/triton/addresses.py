"""Addresses of Tritons: ``host:port`` as people write it, and the servers that it stands for."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port.

    Raises
    ------
    ValueError
        If it has no port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{address!r} is no address of a Triton: write host:port")
    return host.strip("[]"), int(port)


def servers_at(address: str) -> list[str]:
    """Every ``host:port`` that an address stands for: a DNS name may be that of many servers.

    Raises
    ------
    ValueError
        If it has no port.
    OSError
        If its name is unknown.
    """
    host, port = split_address(address)
    return _servers(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), port)


async def look_up_servers_at(address: str) -> list[str]:
    """Do what `servers_at` does, without keeping the event loop waiting."""
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    return _servers(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), port)


def _servers(entries: Iterable[tuple[Any, ...]], port: int) -> list[str]:
    entries = list(entries)
    # A server with addresses of both kinds is one server.
    family = min(entry[0] for entry in entries)
    hosts = sorted({str(entry[4][0]) for entry in entries if entry[0] == family})
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]
