"""Whether docker-compose.yml is whole in itself: exact images, files that are there, ports on this machine only, a
database server behind each address, in both arrangements, and Prometheus asking every server on its operations port,
with the alerts of Kubernetes."""

import re
import subprocess
import tempfile
from pathlib import Path

import yaml

EXACT = re.compile(r"[a-z0-9./-]+:v?\d+\.[\w.-]+(@sha256:[0-9a-f]{64})?|[a-z-]+:local")


class Loader(yaml.SafeLoader):
    """Compose's tag for a value that replaces what stood there is read as the value."""


Loader.add_multi_constructor(
    "!override",
    lambda loader, _, node: loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.MappingNode)
    else loader.construct_sequence(node, deep=True),
)


def faults(root, groups):
    services = yaml.load((root / "docker-compose.yml").read_text(), Loader)["services"]
    single = yaml.load((root / "compose/single-postgres.yml").read_text(), Loader)["services"]
    for name, service in services.items():
        yield from (f"compose: {name} {fault}" for fault in service_faults(root, service))
    environment = services["consent"]["environment"]
    hosts = {re.search(r"@([a-z-]+)/", url)[1] for key, url in environment.items() if key.endswith("DATABASE_URL")}
    waited = set(services["migrate"]["depends_on"])
    yield from (f"compose: there is no server {host} that migrate waits for" for host in sorted(hosts - set(services) | hosts - waited))
    names = set(single["postgres"]["networks"]["default"]["aliases"])
    away = {name for name, service in single.items() if service.get("profiles")}
    for host in sorted(hosts ^ names | hosts ^ away):
        yield f"compose/single-postgres.yml: {host} isn't both taken away and answered for"
    yield from scrape_faults(root, services, environment)
    yield from alert_faults(root, services["prometheus"], groups)


def service_faults(root, service):
    if not EXACT.fullmatch(service["image"]):
        yield f"has no exact image: {service['image']}"
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"is published beyond this machine: {port}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and not (root / source).exists():
            yield f"mounts {source}, which isn't there"


def scrape_faults(root, services, environment):
    servers = {name for name, service in services.items() if service.get("command", [""])[0] == "serve"}
    config = yaml.safe_load((root / "compose/prometheus.yml").read_text())
    asked = {
        name: lookup["port"]
        for job in config["scrape_configs"]
        for lookup in job["dns_sd_configs"]
        for name in lookup["names"]
    }
    if set(asked) != servers:
        yield f"compose/prometheus.yml: it asks {sorted(asked)}, and there are {sorted(servers)}"
    for name, port in asked.items():
        listens = environment.get(f"ASSENT_{name.upper()}_OPS_LISTEN", "")
        if not listens.endswith(f":{port}"):
            yield f"compose/prometheus.yml: {name} is asked on {port} and listens on {listens}"


def alert_faults(root, prometheus, groups):
    """The container's own lines are run, up to the server: what they make must be the rules that Kubernetes gets."""
    config = yaml.safe_load((root / "compose/prometheus.yml").read_text())
    (script,) = prometheus["command"]
    lines, _, server = script.replace("$$", "$").partition("exec ")
    if not server.startswith("prometheus --config.file=/etc/prometheus/prometheus.yml"):
        yield f"compose: Prometheus is started otherwise: {server}"
    for volume in prometheus["volumes"]:
        source, target = volume.split(":")[:2]
        if source.startswith("./"):
            lines = lines.replace(target, str(root / source))
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/alerts.yml"
        subprocess.run(["sh", "-euc", lines.replace("/tmp/alerts.yml", made)], check=True)
        rules = yaml.safe_load(Path(made).read_text()) if Path(made).exists() else None
    if config.get("rule_files") != ["/tmp/alerts.yml"] or rules != {"groups": groups}:
        yield "compose: Prometheus has other alerts than k8s/components/monitoring/prometheusrule.yaml"
    # What its alerts say of a server that is away, they say of the service's name.
    naming = {"source_labels": ["__meta_dns_name"], "target_label": "service"}
    if any(naming not in job.get("relabel_configs", []) for job in config["scrape_configs"]):
        yield "compose/prometheus.yml: a server that doesn't answer has no label `service`"
