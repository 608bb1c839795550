"""Asks every HTTP API of a running cluster whether it does what its description says.

    ask.py HOME DESCRIPTIONS

HOME is the cluster's folder, DESCRIPTIONS that of the OpenAPI documents. Schemathesis makes up the
requests; this tells it who the people of the example are, runs it for one service after the other,
and says what no request got through to.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import requests

# Who erases people comes last.
SERVICES = ["vault", "consent", "messaging", "projector", "erasure"]
# Requests made up for each operation in each phase.
EXAMPLES = "25"
# Longest time for one service; each needs a minute or less.
SECONDS = 600
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def main(home, descriptions):
    addresses = json.loads((home / "cluster.json").read_text())["addresses"]
    url = {name: f"http://127.0.0.1:{port}" for name, port in addresses["api"].items()}
    metrics = {name: f"http://127.0.0.1:{port}/metrics" for name, port in addresses["ops"].items()}
    secret = lambda name: (home / "keys" / name).read_text().strip()
    environment = dict(
        os.environ,
        ASSENT_TOKEN=secret("tokens/operator"),
        WHATSAPP_APP_SECRET=secret("sandbox/whatsapp-app-secret"),
        WHATSAPP_VERIFY_TOKEN=secret("sandbox/whatsapp-verify-token"),
        PYTHONDONTWRITEBYTECODE="1",
    )
    folder = configure(home, url, environment["ASSENT_TOKEN"])
    findings, unreached = [], []
    for service in SERVICES:
        description = descriptions / f"{service}.json"
        log = home / "logs" / f"schemathesis-{service}.log"
        verdict = ask(folder, description, url[service], log, environment)
        print(f"  {service:<10} {verdict or 'as described'}: {summary(log)}", flush=True)
        if verdict:
            findings.append(service)
            print(failures(log), flush=True)
        unreached += without_success(service, description, metrics[service])
    print("NOT REACHED (every request was refused, as described):")
    for operation in unreached:
        print(f"  {operation}")
    print("NOT ASKED: the console's pages and the gateway, which have no description")
    return 1 if findings else 0


def configure(home, url, token):
    """Puts the configuration where it finds the people of this cluster, and what was made for them."""
    folder = home / "schemathesis"
    # What an earlier run found would be asked first.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    here = Path(__file__).parent
    for name in ["schemathesis.toml", "hooks.py"]:
        (folder / name).write_text((here / name).read_text())

    def post(service, path, body):
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.post(url[service] + path, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    made = {"subjects": [], "links": [], "sealed": []}
    for phone in ["+33639980001", "+33639980002"]:
        person = post("vault", "/v1/subjects/lookup", {"phone": phone})["subject_id"]
        link = post("consent", f"/v1/subjects/{person}/preference-links", {})
        text = {"subject_id": person, "record": str(uuid.uuid4()), "text": "form 12"}
        sealed = post("vault", "/v1/seal", {**text, "field": "consent.evidence"})
        made["subjects"].append(person)
        made["links"].append(link["link_id"])
        made["sealed"].append(sealed["sealed"])
    for name, values in made.items():
        (folder / f"{name}.dict").write_text("".join(f'"{value}"\n' for value in values))
    return folder


def ask(folder, description, url, log, environment):
    """What is wrong with a service; nothing when it does what it says."""
    command = [SCHEMATHESIS, "--config-file", "schemathesis.toml", "run", description]
    command += ["--url", url, "--max-examples", EXAMPLES, "--no-color"]
    with open(log, "wb") as output:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"NOT FINISHED in {SECONDS} s"
    return None if done.returncode == 0 else "NOT AS DESCRIBED"


def summary(log):
    found = re.findall(r"\d+ generated.*", log.read_text())
    return found[-1] if found else f"see {log}"


def failures(log):
    """The findings of a log, without what comes before and after them."""
    lines = log.read_text().splitlines()
    begin = [at for at, line in enumerate(lines) if re.match(r"=+ (FAILURES|ERRORS) =+", line)]
    end = [at for at, line in enumerate(lines) if re.match(r"=+ (WARNINGS|SUMMARY) =+", line)]
    shown = lines[begin[0] : end[0]] if begin and end else lines[-40:]
    return "\n".join(line[:300] for line in shown if line.strip())


def without_success(service, description, metrics):
    """The operations that never answered with 2xx: what is behind their refusals wasn't seen."""
    answered = set()
    for line in requests.get(metrics, timeout=30).text.splitlines():
        if line.startswith("http_server_request_duration_seconds_count"):
            label = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if label["http_response_status_code"].startswith("2"):
                answered.add((label["http_request_method"], label["http_route"]))
    for path, operations in json.loads(description.read_text())["paths"].items():
        for method in operations:
            if (method.upper(), path) not in answered:
                yield f"{service} {method.upper()} {path}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
