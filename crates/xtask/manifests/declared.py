"""Whether the ports, addresses and names that k8s/ and docker-compose.yml repeat are those that the code declares. A
service's ports stand with its settings (crates/assent/src/configuration/options.toml), topics and groups in what
`assent topics rights` tells, the simulator's port in its help."""

import re

import yaml

from compose import Loader
from resources import name

SERVICES = ["gateway", "consent", "vault", "messaging", "erasure", "projector", "console"]


def ports_of(root):
    """The two ports of each service: of its API, and of its probes and metrics."""
    options = (root / "crates/assent/src/configuration/options.toml").read_text()
    found = {}
    for service, kind, port in re.findall(r'\[([a-z]+)\.((?:ops_)?listen)\]\n(?:[a-z]+ = .*\n)*?example = "[\d.]+:(\d+)"', options):
        found.setdefault(service, {})[kind] = int(port)
    return found


def faults(root, overlays, rights, simulator):
    ports = ports_of(root)
    if sorted(ports) != sorted(SERVICES) or any(len(both) != 2 for both in ports.values()):
        yield f"options.toml doesn't say where each service listens: {ports}"
        return
    for overlay, resources in overlays.items():
        for check in (pod_faults, service_faults, policy_faults, address_faults):
            yield from (f"{overlay}: {fault}" for fault in check(resources, ports, simulator))
        yield from (f"{overlay}: {fault}" for fault in ingress_faults(root, resources))
    yield from compose_faults(root, ports, simulator)
    yield from name_faults(root, rights)
    source = (root / "crates/xtask/src/services.rs").read_text()
    readme = re.search(r"Default ports .*?simulator (\d+)", (root / "README.md").read_text(), re.S)
    for service, both in ports.items():
        if f'("{service}", {both["listen"]})' not in source:
            yield f"crates/xtask/src/services.rs: {service} has another port than {both['listen']}"
        if f"{service} {both['listen']}" not in readme[0].replace("\n", " "):
            yield f"README.md: {service} has another port than {both['listen']}"
        if both["ops_listen"] != both["listen"] + 100:
            yield f"README.md: the probes of {service} are not 100 above its port"
    if int(readme[1]) != simulator:
        yield f"README.md: the simulator has another port than {simulator}"


def variables_of(container):
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def pod_faults(resources, ports, simulator):
    for resource in resources:
        if resource["kind"] != "Deployment":
            continue
        container = resource["spec"]["template"]["spec"]["containers"][0]
        service = resource["metadata"]["name"]
        opened = {port["name"]: port["containerPort"] for port in container["ports"]}
        variables = variables_of(container)
        if service not in ports:
            if (opened, variables.get("WHATSAPP_SIM_LISTEN")) != ({"http": simulator}, f"0.0.0.0:{simulator}"):
                yield f"{name(resource)}: the simulator listens on {opened}"
            continue
        both = ports[service]
        if opened != {"http": both["listen"], "ops": both["ops_listen"]}:
            yield f"{name(resource)}: opens {opened}, and the code says {both}"
        for kind, port in both.items():
            listens = variables.get(f"ASSENT_{service.upper()}_{kind.upper()}")
            if listens != f"0.0.0.0:{port}":
                yield f"{name(resource)}: listens on {listens}, and the code says {port}"


def service_faults(resources, ports, simulator):
    for resource in resources:
        service = resource["metadata"]["name"]
        if resource["kind"] != "Service" or service not in {*ports, "whatsapp-sim"}:
            continue
        both = ports.get(service, {"listen": simulator})
        wanted = {"http": both["listen"], "ops": both.get("ops_listen")}
        for port in resource["spec"]["ports"]:
            if port["port"] != wanted[port["name"]] or port["targetPort"] != port["name"]:
                yield f"{name(resource)}: {port} is not {wanted[port['name']]}"


def policy_faults(resources, ports, simulator):
    known = {service: set(both.values()) for service, both in ports.items()} | {"whatsapp-sim": {simulator}}
    probes = sorted(both["ops_listen"] for both in ports.values())

    def named(selector):
        return selector.get("matchLabels", {}).get("app.kubernetes.io/name")

    for resource in resources:
        if resource["kind"] != "NetworkPolicy":
            continue
        spec = resource["spec"]
        ends = [([spec["podSelector"]], rule) for rule in spec.get("ingress", [])]
        ends += [([peer.get("podSelector", {}) for peer in rule.get("to", [])], rule) for rule in spec.get("egress", [])]
        for selectors, rule in ends:
            opened = {port["port"] for port in rule.get("ports", [])}
            for service in {named(selector) for selector in selectors} & set(known):
                for port in opened - known[service]:
                    yield f"{name(resource)}: {service} has no port {port}"
            for port in rule.get("ports", []):
                if "endPort" in port and [port["port"], port["endPort"]] != [probes[0], probes[-1]]:
                    yield f"{name(resource)}: probes are on {probes[0]} to {probes[-1]}"


def address_faults(resources, ports, simulator):
    """Every address within the deployment that a setting names."""
    for resource in resources:
        if resource["kind"] == "ConfigMap":
            values = resource.get("data", {})
        elif resource["kind"] in ("Deployment", "Job"):
            values = variables_of(resource["spec"]["template"]["spec"]["containers"][0])
        else:
            continue
        yield from (f"{name(resource)}: {fault}" for fault in wrong_addresses(values, ports, simulator))


def wrong_addresses(values, ports, simulator):
    for variable, value in values.items():
        for host, port in re.findall(r"^https?://([a-z-]+):(\d+)", value):
            known = ports.get(host, {"listen": simulator} if host == "whatsapp-sim" else {})
            if known and int(port) != known["listen"]:
                yield f"{variable} is {value}, and {host} listens on {known['listen']}"
        service = re.fullmatch(r"ASSENT_SERVICES_([A-Z]+)_URL", variable)
        if service and service[1] != "PUBLIC" and not value.startswith(f"http://{service[1].lower()}:"):
            yield f"{variable} is {value}"


def ingress_faults(root, resources):
    """People's pages are the console's, each by the path that its routes begin with."""
    source = "\n".join(file.read_text() for file in sorted((root / "crates/console/src/http").glob("*.rs")))
    pages = set(re.findall(r'\.route\(\s*"(/[^"]*)"', source))
    for resource in resources:
        if resource["kind"] != "Ingress":
            continue
        paths = [path for rule in resource["spec"]["rules"] for path in rule["http"]["paths"]]
        ours = {path["path"] for path in paths if path["backend"]["service"]["name"] == "console"}
        led = {page for page in pages for path in ours if page == path or page.startswith(f"{path}/")}
        yield from (f"{name(resource)}: nobody gets to the page {page}" for page in sorted(pages - led))
        for path in sorted(ours):
            if not any(page == path or page.startswith(f"{path}/") for page in pages):
                yield f"{name(resource)}: the console has no page {path}"


def compose_faults(root, ports, simulator):
    services = yaml.load((root / "docker-compose.yml").read_text(), Loader)["services"]
    for service, container in services.items():
        values = {key: str(value) for key, value in (container.get("environment") or {}).items()}
        for fault in wrong_addresses(values, ports, simulator):
            yield f"compose: {service}: {fault}"
        if container.get("command", [""])[0] == "serve":
            if service not in ports or container["command"] != ["serve", service]:
                yield f"compose: {service} serves {container['command']}"
                continue
            for kind, port in ports[service].items():
                listens = values.get(f"ASSENT_{service.upper()}_{kind.upper()}")
                if listens != f"0.0.0.0:{port}":
                    yield f"compose: {service} listens on {listens}, and the code says {port}"
        for published in container.get("ports", []):
            inside = int(published.rpartition(":")[2])
            if service in ports and inside not in ports[service].values():
                yield f"compose: {service} is published by {published}"
            if service == "whatsapp-sim" and inside != simulator:
                yield f"compose: {service} is published by {published}"
    missing = set(ports) - set(services)
    yield from (f"compose: there is no {service}" for service in sorted(missing))


def name_faults(root, rights):
    """Whatever looks like a topic or a consumer group, wherever it stands, is one."""
    topics = {right["name"] for user in rights["users"] for right in user["rights"] if right["resource"] == "topic"}
    groups = {right["name"] for user in rights["users"] for right in user["rights"] if right["resource"] == "group"}
    groups |= {group["group"] for group in rights["groups"]}
    services = "|".join(SERVICES)
    files = [file for file in sorted((root / "k8s").rglob("*")) if file.suffix in (".yaml", ".env", ".json")]
    files += [root / "docker-compose.yml", *sorted((root / "compose").iterdir())]
    for file in files:
        for named in re.findall(rf"\bassent\.(?:{services})\b[a-z0-9.-]*|\bassent\.replay\b", file.read_text()):
            if named not in topics | groups:
                yield f"{file.relative_to(root)}: no topic and no group is called {named}"
