"""What is written as an address, and which servers that is."""

import socket

import pytest

from astrotriton.export.errors import ServingError
from astrotriton.export.serving import addresses_of
from astrotriton.triton.addresses import look_up_servers_at, servers_at, split_address

ENTRIES = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 8001, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 8001)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 8001)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 8001)),
]


def test_an_address_is_host_and_port():
    assert split_address("triton:8001") == ("triton", 8001)
    assert split_address("[::1]:8001") == ("::1", 8001)
    for text in ("triton", "triton:", "triton:http", ""):
        with pytest.raises(ValueError, match="write host:port"):
            split_address(text)


async def test_a_name_stands_for_every_server_and_a_server_counts_once(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ENTRIES)
    assert servers_at("triton:8001") == ["10.0.0.1:8001", "10.0.0.2:8001"]
    assert await look_up_servers_at("triton:8001") == servers_at("triton:8001")
    assert addresses_of(["triton:8001", "10.0.0.2:8001"]) == servers_at("triton:8001")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ENTRIES[:1])
    assert servers_at("triton:8001") == ["[::1]:8001"]


def test_what_cannot_be_found_is_said():
    with pytest.raises(ServingError, match="write host:port"):
        addresses_of(["triton"])
    with pytest.raises(ServingError, match=r"the Triton at nowhere\.invalid:1 cannot be found"):
        addresses_of(["nowhere.invalid:1"])
