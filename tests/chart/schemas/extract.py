"""Makes the JSON schemas of this folder from definitions of custom resources."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent
_OBJECT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}


def strict(schema: Any) -> Any:
    """A structural schema as a JSON schema that refuses unknown fields and says nothing else."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: strict(one) for name, one in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in schema.items()
        if key not in ("description", "default", "format") and not key.startswith("x-kubernetes")
    }
    if isinstance(pattern := made.get("pattern"), str) and "(?i)" in pattern:
        # Go takes the flag anywhere.
        made["pattern"] = "(?i)" + pattern.replace("(?i)", "")
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def main(paths: list[str]) -> None:
    for path in paths:
        definition = yaml.safe_load(Path(path).read_text())
        spec = definition["spec"]
        for version in spec["versions"]:
            if not version["served"] or version.get("deprecated"):
                continue
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= _OBJECT
            schema["required"] = sorted({*schema.get("required", []), *_OBJECT})
            name = f"{spec['names']['kind']}.{spec['group']}.{version['name']}.json"
            (_FOLDER / name).write_text(
                json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
