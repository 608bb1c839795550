"""Whether every pod may run where Pod Security `restricted` is enforced, is made from one exact image, gets the files
that its settings name, and can be asked how it is."""

from resources import name

PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]
VOLUMES = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}


def faults(resources):
    for resource in resources:
        template = resource.get("spec", {}).get("template")
        if resource["kind"] in ("Deployment", "Job", "StatefulSet"):
            yield from (f"{name(resource)}: {fault}" for fault in pod_faults(resource["kind"], template["spec"]))


def pod_faults(kind, pod):
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
        yield "may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has not the runtime's seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "is given a token for the API server"
    if pod.get("enableServiceLinks") is not False:
        yield "is given variables for each service"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"shares the node: {key}"
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not restricted"
        for secret in (volume.get("secret"), volume.get("projected")):
            # The binary takes no key file that others may read.
            if secret and secret.get("defaultMode", 0o644) & 0o037:
                yield f"volume {volume['name']} opens its files to others"
    for container in pod["containers"] + pod.get("initContainers", []):
        yield from (f"{container['name']} {fault}" for fault in container_faults(kind, container, volumes))


def container_faults(kind, container, volumes):
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    image, _, tag = container["image"].rpartition(":")
    if not image or tag == "latest" or "/" in tag:
        yield f"has no exact image: {container['image']}"
    if not container.get("resources", {}).get("requests", {}).keys() >= {"cpu", "memory"}:
        yield "requests no resources"
    if container["name"] == "assent":
        if not context.get("readOnlyRootFilesystem"):
            yield "may write to its root"
        if kind == "Deployment" and any(container.get(probe, {}).get("httpGet", {}).get("port") != "ops" for probe in PROBES):
            yield "is not asked on its operations port"
    for variable in container.get("env", []):
        path = variable.get("value", "")
        if path.startswith("/run/") and path not in files(container, volumes):
            yield f"finds no file at {path} ({variable['name']})"


def files(container, volumes):
    """The files that secrets put into the container, by what the volumes list."""
    for mount in container.get("volumeMounts", []):
        # What a StatefulSet claims is not in the list, and holds no secret.
        volume = volumes.get(mount["name"], {})
        sources = [volume["secret"]] if "secret" in volume else []
        sources += [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        for source in sources:
            items = source.get("items") or [{"path": "password"}]
            yield from (f"{mount['mountPath']}/{item['path']}" for item in items)
