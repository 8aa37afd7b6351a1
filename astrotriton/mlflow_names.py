"""How models are found in MLflow's registry, by those who look there."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.tracking import MlflowClient

#: The source of a version that is of a logged model; its group ``model`` is the model's id.
LOGGED_MODEL = re.compile(r"models:/(?P<model>m-[0-9a-f]+)")


def quoted(name: str) -> str:
    """A name in a filter of MLflow's."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def all_models(client: "MlflowClient") -> Iterator["RegisteredModel"]:
    """Every registered model; a page is asked for when it is needed."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from page
        if not (token := page.token):
            return
