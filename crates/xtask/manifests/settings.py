"""Whether each server's pod gives `assent serve` a whole configuration: it is started here with the pod's variables
and files, and must get as far as looking for its database (or, without one, as serving). The simulator's variables
are those of its help."""

import base64
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

# How `assent serve` ends: 2 wrong configuration, 3 a store couldn't be reached.
UNREACHABLE = 3
# What operators would have made: of the file, only that it is one.
MADE_BY_OPERATORS = {
    "ca.crt": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "password": b"of-nobody",
}
# Nothing listens there.
NOWHERE = "postgres://nobody@127.0.0.1:1/nothing"
SECONDS = 20


def help_of_simulator(binaries):
    return subprocess.run([binaries / "whatsapp-sim", "--help"], capture_output=True, text=True, check=True).stdout


def port_of_simulator(binaries):
    """Where it listens unless it is told otherwise."""
    return int(re.search(r"\[env: WHATSAPP_SIM_LISTEN=\]\s*\[default: [\d.]+:(\d+)\]", help_of_simulator(binaries))[1])


def faults(overlays, binaries):
    help_text = help_of_simulator(binaries)
    # Production's secrets come from elsewhere, with the names and keys that a laptop's have.
    secrets = {
        re.sub("-[a-z0-9]{10}$", "", resource["metadata"]["name"]): resource["data"]
        for resource in overlays["laptop"]
        if resource["kind"] == "Secret"
    }
    for overlay, resources in overlays.items():
        maps = {resource["metadata"]["name"]: resource["data"] for resource in resources if resource["kind"] == "ConfigMap"}
        for deployment in (resource for resource in resources if resource["kind"] == "Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            container = pod["containers"][0]
            place = f"{overlay}: {deployment['metadata']['name']}"
            if container["name"] != "assent":
                unknown = [variable["name"] for variable in container["env"] if variable["name"] not in help_text]
                yield from (f"{place}: the simulator reads no {variable}" for variable in unknown)
                continue
            with tempfile.TemporaryDirectory() as folder:
                problem = try_out(container, pod, maps, secrets, Path(folder), binaries / "assent")
            if problem:
                yield f"{place}: {problem}"


def try_out(container, pod, maps, secrets, folder, assent):
    """What is wrong with a server in its pod; nothing if it is configured."""
    problem = lay_out(container, pod, secrets, folder)
    if problem:
        return problem
    variables = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]
    variables |= {variable["name"]: variable["value"] for variable in container.get("env", [])}
    for key, value in variables.items():
        if value.startswith("/run/"):
            variables[key] = f"{folder}{value}"
        elif key.endswith("LISTEN"):
            variables[key] = "127.0.0.1:0"
    arguments = container["args"]
    server = subprocess.Popen(
        [assent, *arguments], env={"PATH": os.environ["PATH"], **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with_database = any(key.endswith("DATABASE_URL_FILE") for key in variables)
    if with_database:
        try:
            said, _ = server.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            return "didn't end without a database"
        return None if server.returncode == UNREACHABLE else f"ended with {server.returncode}: {said.strip()}"
    ends = time.monotonic() + SECONDS
    said = ""
    while time.monotonic() < ends and "started" not in said:
        line = server.stdout.readline()
        if not line:
            return f"ended with {server.wait()}: {said.strip()}"
        said += line
    server.kill()
    server.communicate()
    return None if "started" in said else f"didn't start: {said.strip()}"


def lay_out(container, pod, secrets, folder):
    """Puts the files of the pod's secrets where it will look for them, below the folder."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        for item in volume.get("secret", {}).get("items", []):
            file = Path(f"{folder}{mount['mountPath']}") / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(MADE_BY_OPERATORS[item["key"]])
            file.chmod(volume["secret"]["defaultMode"])
        for source in sources:
            secret = re.sub("-[a-z0-9]{10}$", "", source["name"])
            for item in source["items"]:
                if item["key"] not in secrets.get(secret, {}):
                    return f"there is no secret {secret} with {item['key']}"
                content = base64.b64decode(secrets[secret][item["key"]])
                if item["key"] == "uri":
                    content = NOWHERE.encode()
                file = Path(f"{folder}{mount['mountPath']}") / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(volume["projected"]["defaultMode"])
    return None
