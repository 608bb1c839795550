"""Makes a JSON schema of each custom resource definition, for checks without a cluster.

    vendor.py SCHEMAS CRD…

SCHEMAS is the folder, CRD a file of an operator's release (schemas/README.md lists them). What only people
read is left out; an unknown field is an error, as it is with `kubectl apply --validate=strict`.
"""

import json
import sys
from pathlib import Path

import yaml

PROSE = {"description", "example", "externalDocs", "title", "default"}
KEPT = {"x-kubernetes-preserve-unknown-fields"}


def main(folder, files):
    for file in files:
        for crd in yaml.safe_load_all(Path(file).read_text()):
            if not crd:
                continue
            kind, group = crd["spec"]["names"]["kind"], crd["spec"]["group"]
            for version in crd["spec"]["versions"]:
                if version["served"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    name = f"{group}_{version['name']}_{kind}.json"
                    (folder / name).write_text(json.dumps(schema, separators=(",", ":")) + "\n")


def strict(schema):
    """The schema without prose, closed where it lists properties."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in PROSE or key.startswith("x-kubernetes-") and key not in KEPT:
            continue
        if key == "properties":
            made[key] = {name: strict(part) for name, part in value.items()}
        else:
            made[key] = strict(value)
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [made["type"], "null"]
    open_ended = made.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in made and made.get("type") and not open_ended:
        made.setdefault("additionalProperties", False)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
