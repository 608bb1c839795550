"""Whether every resource is one that an API server would take, as far as schemas say it: Kubernetes' own of the
oldest and the newest version that is supported, the operators' from ./schemas."""

import json
from pathlib import Path

import jsonschema
import kubernetes_validate

VERSIONS = ["1.30", "1.37"]
SCHEMAS = Path(__file__).with_name("schemas")


def name(resource):
    return f"{resource['kind']}/{resource['metadata']['name']}"


def faults(resources):
    seen = set()
    for resource in resources:
        identity = (resource["apiVersion"], name(resource))
        if identity in seen:
            yield f"{name(resource)} is there twice"
        seen.add(identity)
        if resource["kind"] != "Namespace" and resource["metadata"].get("namespace") != "assent":
            yield f"{name(resource)} is not in the namespace"
        yield from (f"{name(resource)}: {fault}" for fault in schema_faults(resource))


def schema_faults(resource):
    group, _, version = resource["apiVersion"].rpartition("/")
    own = SCHEMAS / f"{group}_{version}_{resource['kind']}.json"
    if own.exists():
        validator = jsonschema.Draft7Validator(json.loads(own.read_text()))
        for error in validator.iter_errors(resource):
            yield f"{error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"Kubernetes {version} doesn't know {resource['apiVersion']}, and ./schemas has no such file"
