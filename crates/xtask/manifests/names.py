"""Whether the names that manifests share with the code are the code's: topics, consumers, metrics. Whether every
alert has a runbook and a test, and docs/metrics.md every metric."""

import json
import re

import yaml

from resources import name

MONITORING = "k8s/components/monitoring"


def faults(root, resources, rights):
    source = "\n".join(file.read_text() for file in sorted((root / "crates").glob("*/src/**/*.rs")))
    topics, metrics = topics_of(root), metrics_of(source)
    users = {user["user"]: rights_of(user) for user in rights["users"]}
    consumers = {group["group"]: group["topic"] for group in rights["groups"]}
    made = set()
    declared = {}
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] == "KafkaTopic":
            # How many replicas must have a record is the deployment's.
            settings = {key: value for key, value in spec["config"].items() if key != "min.insync.replicas"}
            declared[resource["metadata"]["name"]] = (spec["partitions"], settings)
        elif resource["kind"] == "KafkaUser":
            made.add(resource["metadata"]["name"])
            yield from user_faults(resource, users)
        elif resource["kind"] == "ScaledObject":
            yield from scaling_faults(resource, topics, consumers)
        elif resource["kind"] == "PrometheusRule":
            for rule in (rule for group in spec["groups"] for rule in group["rules"]):
                yield from metric_faults(rule["alert"], rule["expr"], metrics)
        elif resource["metadata"]["name"] == "assent-dashboard":
            for panel in json.loads(resource["data"]["assent.json"])["panels"]:
                for target in panel.get("targets", []):
                    yield from metric_faults(f"panel {panel['title']!r}", target["expr"], metrics)
    yield from (f"nobody is Kafka's user {user}" for user in (set(users) - made if made else ()))
    yield from page_faults(root, metrics)
    if declared and declared != topics:
        yield f"the topics are {declared}, those of the code {topics}"


def topics_of(root):
    """Partitions and settings of every topic, as docs/asyncapi tells them, which is generated from crates/contracts."""
    document = json.loads((root / "docs/asyncapi/assent.json").read_text())
    bindings = [channel["bindings"]["kafka"] for channel in document["channels"].values() if "kafka" in channel["bindings"]]
    return {kafka["topic"]: (kafka["partitions"], settings_of(kafka["topicConfiguration"])) for kafka in bindings}


def settings_of(configuration):
    return {key: value[0] if isinstance(value, list) else value for key, value in configuration.items()}


def rights_of(user):
    """What `assent topics rights` says of a user, and so what the code declares."""
    return {(it["resource"], it["name"], it["pattern"], tuple(it["operations"])) for it in user["rights"]}


def metrics_of(source):
    """What /metrics calls the instruments of the code, and what Prometheus adds."""
    found = {"up"}
    for kind, dotted, rest in re.findall(
        r'_(counter|gauge|histogram)\(\s*"([a-z_.]+)"\s*\)((?:[^;]|;(?! *\n))*?)\.build\(\)', source
    ):
        series = dotted.replace(".", "_") + ("_seconds" if 'with_unit("s")' in rest else "")
        ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[kind]
        found |= {series + end for end in ends}
    return found


def page_faults(root, metrics):
    """The page has a line for each series, as /metrics names it; a histogram's without the ends that it always has."""
    page = (root / "docs/metrics.md").read_text()
    told = set(re.findall(r"^\| `((?:assent|http)_[a-z_]+)`", page, re.MULTILINE))
    # `up` is Prometheus's, and the other one a test's.
    ours = metrics - {"up", "assent_things_total"}
    histograms = {series.removesuffix("_bucket") for series in ours if series.endswith("_bucket")}
    ours -= {series + end for series in histograms for end in ("_bucket", "_count", "_sum")}
    ours |= histograms
    yield from (f"docs/metrics.md doesn't have {series}" for series in sorted(ours - told))
    yield from (f"docs/metrics.md: the code has no metric {series}" for series in sorted(told - ours))


def user_faults(user, users):
    given = {
        (acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"], tuple(acl["operations"]))
        for acl in user["spec"]["authorization"]["acls"]
    }
    needed = users.get(user["metadata"]["name"], set())
    yield from (f"{name(user)}: {right} is more than it needs" for right in sorted(given - needed))
    yield from (f"{name(user)}: {right} is missing" for right in sorted(needed - given))


def scaling_faults(scaled, topics, consumers):
    spec = scaled["spec"]
    if not 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]:
        yield f"{name(scaled)}: a service must not be scaled to nothing"
    for trigger in spec["triggers"]:
        if trigger["type"] != "kafka":
            continue
        group, topic = trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]
        if consumers.get(group) != topic:
            yield f"{name(scaled)}: {group} reads {consumers.get(group)}, not {topic}"
        if spec["maxReplicaCount"] > topics.get(topic, (0, ""))[0]:
            yield f"{name(scaled)}: more replicas than {topic} has partitions"


def metric_faults(place, expression, metrics):
    for series in set(re.findall(r"\b(?:assent|http)_[a-z_]+(?=\{)|\bup(?=\{)", expression)) - metrics:
        yield f"{place}: the code has no metric {series}"


def alert_groups(resources):
    return [group for resource in resources if resource["kind"] == "PrometheusRule" for group in resource["spec"]["groups"]]


def alert_faults(root, groups):
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    pages = {str(page.relative_to(root)) for page in (root / "docs/runbooks").glob("*.md")} - {"docs/runbooks/README.md"}
    unused = set(pages)
    for alert, rule in alerts.items():
        page = rule["annotations"]["runbook"]
        if page not in pages:
            yield f"{alert}: there is no {page}"
        elif alert not in (root / page).read_text():
            yield f"{page} doesn't speak of {alert}"
        unused.discard(page)
    yield from (f"{page} belongs to no alert" for page in sorted(unused))
    tests = yaml.safe_load((root / MONITORING / "prometheusrule.test.yaml").read_text())["tests"]
    tested = [case for test in tests for case in test["alert_rule_test"]]
    for alert in alerts:
        if not any(case["alertname"] == alert and case["exp_alerts"] for case in tested):
            yield f"{alert}: no test sees it alert"
        if not any(case["alertname"] == alert and not case["exp_alerts"] for case in tested):
            yield f"{alert}: no test sees it silent"
