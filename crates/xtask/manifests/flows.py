"""Whether what the network policies allow is a way: a flow that only one of its two ends allows is none. And whether
nobody has been forgotten by them."""

from resources import name

# Its policies for incoming connections are made by its operator.
MADE_BY_STRIMZI = {"assent/kafka": "true", "strimzi.io/cluster": "assent"}


def faults(resources):
    policies = [resource["spec"] for resource in resources if resource["kind"] == "NetworkPolicy"]
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if everything not in policies:
        yield "no policy denies what no other allows"
    pods = dict(all_pods(resources))
    for pod, labels in pods.items():
        if not any(policy["podSelector"] and matches(policy["podSelector"], labels) for policy in policies):
            yield f"no policy speaks of {pod}"
        if labels == MADE_BY_STRIMZI:
            continue
        for other, theirs in pods.items():
            out = ports(policies, "Egress", labels, theirs)
            into = ports(policies, "Ingress", theirs, labels)
            if theirs == MADE_BY_STRIMZI:
                into = out
            for port in out ^ into:
                side = "goes out of the first only" if port in out else "comes into the second only"
                yield f"{pod} → {other}: {port} {side}"


def all_pods(resources):
    """Names and labels of the pods that the resources bring about, one for each."""
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job", "StatefulSet"):
            yield name(resource), resource["spec"]["template"]["metadata"]["labels"]
        elif resource["kind"] == "Cluster":
            made = {"cnpg.io/cluster": resource["metadata"]["name"]}
            yield name(resource), made | resource["spec"]["inheritedMetadata"]["labels"]
        elif resource["kind"] == "Kafka":
            yield name(resource), MADE_BY_STRIMZI


def ports(policies, direction, own, theirs):
    """The ports between two pods that the first one's policies allow; what is open to every address isn't meant."""
    peers, rules = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    found = set()
    for policy in policies:
        if not matches(policy["podSelector"], own):
            continue
        for rule in policy.get(rules, []):
            near = [peer for peer in rule.get(peers, []) if peer.keys() == {"podSelector"}]
            if any(matches(peer["podSelector"], theirs) for peer in near):
                found |= {port["port"] for port in rule.get("ports", [])}
    return found


def matches(selector, labels):
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for expression in selector.get("matchExpressions", []):
        there = expression["key"] in labels
        if expression["operator"] == "Exists" and not there:
            return False
        if expression["operator"] == "In" and labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
