"""A server of another design in a process group of its own, with the best of some settings."""

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.exposures import Exposure
from benchmarks.speed.processes import Processes, Server, free_port
from benchmarks.speed.wire import post

Settings = Mapping[str, Mapping[str, str]]

_WARM_UP = 4
#: No server of these is to call home, or to look for a GPU.
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
}


class Alternative(Contender):
    """A server of another design, with the best of some settings.

    Parameters
    ----------
    model
        Folder of the model as MLflow keeps it.
    cache
        Where environments are kept.
    tries
        Exposures that each setting is tried with; 0: the first setting is taken.

    Attributes
    ----------
    settings
        What is tried: by words, the environment variables. The first is what was best here.
    tried
        What each reached, exposures a second; or why it did not work.
    address
        ``host:port`` of the server.
    own
        What a client's thread keeps, such as its connection.
    """

    settings: ClassVar[Settings]

    def __init__(
        self, exposures: Sequence[Exposure], model: Path, cache: Path, *, tries: int
    ) -> None:
        super().__init__(exposures)
        self.model, self.cache = model, cache
        self.folder = cache / "servers" / self.key
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tried: dict[str, float | str] = {}
        self._tries = tries
        self._server: Server | None = None
        self.own = threading.local()
        self.address = ""

    @abstractmethod
    def command(self, port: int, setting: Mapping[str, str]) -> list[str]:
        """What starts it."""

    @abstractmethod
    def ready(self) -> None:
        """Raise an `OSError` if it does not answer yet."""

    def start(self) -> None:
        """Try the settings, and start it with the best."""
        for words, setting in self.settings.items() if self._tries else ():
            try:
                self._serve(setting)
                self.drain(_WARM_UP, _WARM_UP)
                self.tried[words] = self._tries / self.drain(self._tries, self._tries)
            except RuntimeError as error:
                self.tried[words] = str(error)
            finally:
                self._end()
        rates = {words: rate for words, rate in self.tried.items() if isinstance(rate, float)}
        if self.tried and not rates:
            raise RuntimeError("; ".join(f"{words}: {why}" for words, why in self.tried.items()))
        best = max(rates, key=rates.__getitem__, default=next(iter(self.settings)))
        self.title = f"{self.title}, {best}"
        self._serve(self.settings[best])

    def _serve(self, setting: Mapping[str, str]) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.own = threading.local()
        command = self.command(port, setting)
        own = {"MODEL": str(self.model), "PATH": f"{Path(command[0]).parent}:/usr/bin:/bin"}
        self._server = Server(command, self.ready, self.folder, _QUIET | own | dict(setting))

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def stop(self) -> None:
        """Stop the server."""
        super().stop()
        self._end()

    def processes(self) -> Processes:
        """The server's."""
        return {"server": self._server.tree()} if self._server else {}

    def post(self, path: str, body: bytes, kind: str) -> bytes:
        """POST to the server."""
        return post(self.own, self.address, path, body, kind)
