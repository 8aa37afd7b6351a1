"""The data folder of a stack: its lock, credentials, ports and published state."""

import contextlib
import fcntl
import hashlib
import os
import random
import secrets
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from astrotriton.stack.errors import StackInUseError

#: Name of the variable that marks every process of a stack, with its data folder as value.
MARK = "ASTROTRITON_STACK"

_HOST = "127.0.0.1"
# Below the range that the kernel gives to outgoing connections, so nobody takes one by accident.
_PORTS = range(20_000, 32_000)
_LISTENERS = (
    *("postgres", "nats", "mlflow", "gateway", "triton_http", "triton_grpc", "triton_metrics"),
    *("s3", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc"),
)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Secrets of one data folder, made at random when it is new."""

    postgres: str = msgspec.field(default_factory=secrets.token_hex)
    astrotriton: str = msgspec.field(default_factory=secrets.token_hex)
    mlflow: str = msgspec.field(default_factory=secrets.token_hex)
    s3_access_key: str = msgspec.field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = msgspec.field(default_factory=secrets.token_hex)
    nats: str = msgspec.field(default_factory=secrets.token_hex)


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a stack answer. Some hold passwords: show `public` to people.

    Attributes
    ----------
    database_url
        The gateway's PostgreSQL database, for asyncpg.
    mlflow_database_url
        MLflow's, in the same server, for SQLAlchemy.
    s3_url, s3_access_key, s3_secret_key, s3_bucket
        The object store and the bucket made in it.
    nats_url
        NATS with JetStream, token included.
    mlflow_url
        MLflow's tracking server and registry.
    triton_http, triton_grpc, triton_metrics
        ``host:port`` of Triton's three ports.
    gateway_url
        The HTTP service.
    """

    database_url: str
    mlflow_database_url: str
    s3_url: str
    s3_access_key: str
    s3_secret_key: str
    s3_bucket: str
    nats_url: str
    mlflow_url: str
    triton_http: str
    triton_grpc: str
    triton_metrics: str
    gateway_url: str

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use this stack (gateway, exporter, client)."""
        return {
            "ASTROTRITON_DATABASE_URL": self.database_url,
            "ASTROTRITON_NATS_URL": self.nats_url,
            "ASTROTRITON_TRITON_GRPC": self.triton_grpc,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
        }

    def public(self) -> dict[str, str]:
        """The addresses that a person opens, by part, free of secrets."""
        return {
            "gateway": self.gateway_url,
            "mlflow": self.mlflow_url,
            "triton (HTTP)": f"http://{self.triton_http}",
            "triton (gRPC)": self.triton_grpc,
            "triton (metrics)": f"http://{self.triton_metrics}/metrics",
            "s3": self.s3_url,
        }


class State(msgspec.Struct, kw_only=True):
    """What an owner publishes of its stack in ``stack.json``."""

    owner: int
    addresses: Addresses
    ready: bool = False
    parts: dict[str, str] = {}
    restarts: dict[str, int] = {}
    failure: str | None = None


class Site:
    """A data folder, held by this process alone until `release`.

    Parameters
    ----------
    data
        The folder; made if missing.
    patience
        Seconds to wait for the parts of an owner that was killed: their guards hold the lock until
        the last part is gone.

    Raises
    ------
    StackInUseError
        If a living process owns the folder.
    """

    def __init__(self, data: Path, *, patience: float = 60.0) -> None:
        self.data = data.resolve()
        self.data.mkdir(parents=True, exist_ok=True)
        self.lock = _acquire(self.data, patience)
        try:
            sweep(self.data)
            self.credentials = _credentials(self.data / "credentials.json")
            self.ports = _free_ports(self.data)
            self.addresses = self._addresses()
            for name in ("logs", "home", "tmp"):
                (self.data / name).mkdir(exist_ok=True)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the folder go."""
        os.close(self.lock)

    def folder(self, part: str) -> Path:
        """The folder of one part, made if missing; it is the part's working directory too."""
        path = self.data / part
        path.mkdir(exist_ok=True)
        return path

    def log(self, part: str) -> Path:
        """The file that a part's output goes to."""
        return self.data / "logs" / f"{part}.log"

    def environment(self, **more: str) -> dict[str, str]:
        """A part's environment: the little it needs of ours, and homes inside the data folder.

        Nothing else of ours goes in, so that neither a proxy nor a stray AWS_*, PG* or MLFLOW_*
        setting can lead a part astray.
        """
        kept = ("PATH", "LANG", "LC_ALL", "TZ")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.data / "home"),
            "TMPDIR": str(self.data / "tmp"),
            **more,
            MARK: str(self.data),
        }

    def publish(self, state: State) -> None:
        """Write ``stack.json``, whole or not at all."""
        write_private(self.data / "stack.json", msgspec.json.format(msgspec.json.encode(state)))

    def _addresses(self) -> Addresses:
        ports, keys = self.ports, self.credentials
        postgres = f"{_HOST}:{ports['postgres']}"
        return Addresses(
            database_url=f"postgresql://astrotriton:{keys.astrotriton}@{postgres}/astrotriton",
            mlflow_database_url=f"postgresql+psycopg2://mlflow:{keys.mlflow}@{postgres}/mlflow",
            s3_url=f"http://{_HOST}:{ports['s3']}",
            s3_access_key=keys.s3_access_key,
            s3_secret_key=keys.s3_secret_key,
            s3_bucket="astrotriton",
            nats_url=f"nats://{keys.nats}@{_HOST}:{ports['nats']}",
            mlflow_url=f"http://{_HOST}:{ports['mlflow']}",
            triton_http=f"{_HOST}:{ports['triton_http']}",
            triton_grpc=f"{_HOST}:{ports['triton_grpc']}",
            triton_metrics=f"{_HOST}:{ports['triton_metrics']}",
            gateway_url=f"http://{_HOST}:{ports['gateway']}",
        )


def read_state(data: Path) -> State | None:
    """What the last owner published; None if there is nothing to read."""
    try:
        return msgspec.json.decode((data / "stack.json").read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(data: Path) -> bool:
    """Whether an owner, or a part that it left behind, still holds the folder."""
    try:
        lock = os.open(data / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def owner_of(data: Path) -> int | None:
    """The process that owns a folder; None if there is none, though parts of it may still end."""
    lock = data.resolve() / "lock"
    try:
        pid = int(lock.read_text())
        # By the time we ask, the number may be another process's.
        holds = any(file.path == str(lock) for file in psutil.Process(pid).open_files())
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if holds else None


def sweep(data: Path) -> None:
    """Kill what is left of a stack whose guards were killed too; they left no other trace."""
    marker = f"{MARK}={data}".encode()
    cluster = str(data / "postgres" / "cluster")
    for process in _processes():
        with contextlib.suppress(psutil.Error, OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            # PostgreSQL's backends write their titles over their environment.
            backend = process.name() == "postgres" and process.cwd() == cluster
            if marker in environment.split(b"\0") or backend:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
    # A guard that was killed here left its part's shared memory behind.
    for region in Path("/dev/shm").glob(f"{region_prefix(data)}*"):
        region.unlink(missing_ok=True)


def region_prefix(data: Path) -> str:
    """What the names of the shared memory regions of a data folder's Triton begin with."""
    return f"astrotriton_{hashlib.sha256(str(data).encode()).hexdigest()[:12]}_"


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step by one that only its owner may read.

    After a power cut there is the old one or the new one, whole.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _processes() -> Iterator[psutil.Process]:
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return (process for process in psutil.process_iter() if process.pid not in ours)


def _acquire(data: Path, patience: float) -> int:
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = owner_of(data)
            if owner is not None or time.monotonic() > deadline:
                os.close(lock)
                raise StackInUseError(data, owner) from None
            time.sleep(0.1)
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            return lock


def _credentials(path: Path) -> Credentials:
    if not path.exists():
        write_private(path, msgspec.json.format(msgspec.json.encode(Credentials())))
    return msgspec.json.decode(path.read_bytes(), type=Credentials)


def _free_ports(data: Path) -> dict[str, int]:
    """A free port for every listener: for the same folder the same ones, if they are free."""
    choice = random.Random(hashlib.sha256(str(data).encode()).digest())
    candidates = iter(choice.sample(_PORTS, len(_PORTS)))
    return {name: next(port for port in candidates if _is_free(port)) for name in _LISTENERS}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a connection that is being forgotten doesn't count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
