"""The chart as Helm renders it, and what is made from it and kept beside it."""

import json
import re
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from astrotriton.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "astrotriton"
SNAPSHOTS = Path(__file__).parent / "snapshots"
SCENARIOS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
RELEASE, NAMESPACE = "demo", "astronomy"

# Settings of the gateway that the chart makes of other values.
OWN_SETTINGS = {
    *("host", "port", "grpc_port", "auth", "database_url", "triton_grpc", "model_repository"),
    *("s3_buckets", "s3_endpoint", "s3_region", "nats_url", "mlflow_uri", "drain_delay"),
    *("shutdown_timeout", "triton_metrics_port", "worker"),
}


def scenario(name: str) -> dict[str, Any]:
    """The values of a scenario."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text())
    return values


def render(values: dict[str, Any]) -> dict[str, str]:
    """What the chart makes of some values, by template."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return {name.removeprefix("astrotriton/templates/"): text for name, text in rendered.items()}


def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that the chart makes of some values."""
    texts = (text for name, text in render(values).items() if name.endswith(".yaml"))
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def find(made: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object of a kind whose name ends so."""
    (found,) = (
        one for one in made if one["kind"] == kind and one["metadata"]["name"].endswith(name)
    )
    return found


def pod_of(one: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that an object is or makes, if it does."""
    if one["kind"] == "Pod":
        return one["spec"]
    if one["kind"] == "CronJob":
        one = one["spec"]["jobTemplate"]
    return (
        one["spec"].get("template", {}).get("spec") if isinstance(one.get("spec"), dict) else None
    )


def snapshot(name: str) -> str:
    """Everything that a scenario renders to, as it is kept."""
    made = objects(scenario(name))
    made.sort(key=lambda one: (one["kind"], one["metadata"]["name"]))
    for one in made:
        # Whole files have tests of their own.
        if one["kind"] == "PrometheusRule":
            one["spec"] = "(a file)"
        for section in ("data", "binaryData"):
            for name_of, text in one.get(section, {}).items():
                if len(text) > 4000:
                    one[section][name_of] = "(a file)"
    return yaml.safe_dump_all(made, sort_keys=False, width=100)


def settings_schema() -> dict[str, Any]:
    """What `gateway.settings` takes: the gateway's settings, less those that the chart makes."""
    taken = {}
    for name, field in GatewaySettings.model_json_schema()["properties"].items():
        if name in OWN_SETTINGS:
            continue
        (schema,) = [one for one in field.pop("anyOf", [field]) if one != {"type": "null"}]
        kept = {key: value for key, value in schema.items() if key not in ("default", "title")}
        kept.pop("description", None)
        taken[name] = {"description": field["description"], **kept}
    return {
        "description": "Settings of gateway/settings.py by name, but those that the chart makes.",
        "type": "object",
        "additionalProperties": False,
        "properties": taken,
    }


def schema_text() -> str:
    """`values.schema.json` with the gateway's settings as they are now."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["$defs"]["settings"] = settings_schema()
    return json.dumps(schema, indent=2) + "\n"


def readme_text() -> str:
    """The chart's README: its head, and a table of `values.yaml` and its comments."""
    head = (CHART / "README.head.md").read_text()
    lines = ["| value | default | |", "|---|---|---|"]
    for key, default, comment in _documented((CHART / "values.yaml").read_text()):
        lines.append(f"| `{key}` | `{default}` | {comment} |")
    return head + "\n".join(lines) + "\n"


def _documented(text: str) -> list[tuple[str, str, str]]:
    """Key, default and comment of every value that is set, in order."""
    rows: list[tuple[str, str, str]] = []
    comments: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# ").removeprefix("-- "))
            continue
        if match := re.match(r"( *)([\w-]+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            comments[".".join(path)] = " ".join(comment)
        comment = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value and not prefix.endswith("resources"):
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else name, inner)
        else:
            rows.append((prefix, json.dumps(value), _comment(comments, prefix)))

    walk("", yaml.safe_load(text))
    return rows


def _comment(comments: dict[str, str], key: str) -> str:
    """A value's comment, or that of the group that it stands in."""
    own = comments.get(key, "")
    if own or "." not in key:
        return own
    return _comment(comments, key.rpartition(".")[0])
