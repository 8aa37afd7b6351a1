"""MLflow's client, with faults that are told at once and in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils import logging_utils

from astrotriton.export.errors import RegistryError

_REACH_SECONDS = 5.0


@contextmanager
def mlflow_client(doing: str) -> Iterator[MlflowClient]:
    """A client of tracking and registry, whose faults are told as a `RegistryError`.

    Parameters
    ----------
    doing
        What it is for, in words that follow "cannot".
    """
    where = mlflow.get_tracking_uri()
    try:
        if urlsplit(where).scheme in ("http", "https"):
            # MLflow itself retries a refused connection for minutes before it says so.
            with httpx.stream("GET", where, timeout=_REACH_SECONDS):
                pass
        yield MlflowClient()
    except MlflowException as error:
        raise RegistryError(f"cannot {doing} in MLflow at {where}: {error.message}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryError(
            f"cannot {doing}: MLflow at {where} cannot be reached; start it, or set"
            f" MLFLOW_TRACKING_URI ({error})"
        ) from error
    except OSError as error:  # MLflow lets those of its own HTTP library through.
        raise RegistryError(f"cannot {doing} in MLflow at {where}: {error}") from error


@contextmanager
def unheard() -> Iterator[None]:
    """Keep MLflow from telling on stderr what it does; logging a model turns that on again."""
    stream = logging_utils.MLFLOW_LOGGING_STREAM
    before, stream.enabled = stream.enabled, False
    try:
        yield
    finally:
        stream.enabled = before
