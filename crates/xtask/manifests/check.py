"""Checks the rendered manifests of k8s/ without a cluster, and docker-compose.yml without an engine.

    check.py ROOT RENDERED BINARIES ALERTS

ROOT is the workspace, RENDERED a folder with one file for each overlay, BINARIES that of `assent` and
`whatsapp-sim`. Prints what is wrong and ends with status 1, or says what was checked. The groups of alerts are
written to ALERTS as promtool reads them.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

import compose
import declared
import flows
import kafka
import names
import pods
import resources
import settings


def main(root, rendered, binaries, alerts):
    # As with the default prefix, whatever the environment says.
    told = subprocess.run([binaries / "assent", "--json", "topics", "rights"], env={}, capture_output=True, text=True, check=True)
    rights = json.loads(told.stdout)
    overlays = {}
    for file in sorted(rendered.glob("*.yaml")):
        overlays[file.stem] = [document for document in yaml.safe_load_all(file.read_text()) if document]
    faults = []
    for overlay, documents in overlays.items():
        for check in (resources.faults, pods.faults, flows.faults, kafka.faults):
            faults += [f"{overlay}: {fault}" for fault in check(documents)]
        faults += [f"{overlay}: {fault}" for fault in names.faults(root, documents, rights)]
        print(f"  {overlay}: {len(documents)} resources")
    groups = names.alert_groups(overlays["production"])
    faults += compose.faults(root, groups)
    alerts.write_text(yaml.safe_dump({"groups": groups}))
    faults += names.alert_faults(root, groups)
    faults += declared.faults(root, overlays, rights, settings.port_of_simulator(binaries))
    faults += settings.faults({name: overlays[name] for name in ("laptop", "production")}, binaries)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
