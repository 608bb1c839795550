"""Whether everybody who talks to Kafka comes in: by a listener that there is, as a user whom it knows, with the password
of that user and the authority of that cluster. And whether there is no other way in."""

from resources import name

PREFIX = "ASSENT_KAFKA_"


def faults(resources):
    """Only where an operator makes Kafka: a laptop's has one plain listener, for whom its policy names."""
    clusters = [resource for resource in resources if resource["kind"] == "Kafka"]
    if not clusters:
        return
    kafka = clusters[0]
    listeners = {listener["port"]: listener for listener in kafka["spec"]["kafka"]["listeners"]}
    for port, listener in listeners.items():
        if not listener["tls"] or listener.get("authentication", {}).get("type") != "scram-sha-512":
            yield f"the listener at {port} lets in without TLS and a login"
    if kafka["spec"]["kafka"].get("authorization") != {"type": "simple"}:
        yield "what a user may do is nobody's matter"
    prefix = kafka["spec"]["entityOperator"]["userOperator"].get("secretPrefix", "")
    made = {resource["metadata"]["name"] for resource in resources if resource["kind"] == "KafkaUser"}
    users = {user: prefix + user for user in made}
    for secret in set(users.values()) & secrets(resources):
        yield f"two make the secret {secret}"
    used = set()
    authority = f"{kafka['metadata']['name']}-cluster-ca-cert"
    maps = {resource["metadata"]["name"]: resource["data"] for resource in resources if resource["kind"] == "ConfigMap"}
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job"):
            user, problems = client_faults(resource, maps, listeners, users, authority)
        elif resource["kind"] == "ScaledObject":
            user, problems = scaler_faults(resource, resources, maps, listeners, users, authority)
        else:
            continue
        used.add(user)
        yield from (f"{name(resource)}: {problem}" for problem in problems)
    yield from (f"nobody comes in as {user}" for user in made - used)


def secrets(resources):
    """What others than Strimzi's user operator make."""
    return {resource["spec"]["target"]["name"] for resource in resources if resource["kind"] == "ExternalSecret"}


def client_faults(resource, maps, listeners, users, authority):
    """The user of a pod of ours, and what is wrong with how it comes in."""
    pod = resource["spec"]["template"]["spec"]
    container = pod["containers"][0]
    own = {variable["name"]: variable["value"] for variable in container.get("env", [])}
    component = resource["metadata"]["labels"].get("app.kubernetes.io/component")
    service = resource["metadata"]["labels"].get("app.kubernetes.io/name")
    if f"ASSENT_{(service or '').upper()}_DATABASE_URL_FILE" not in own:
        # Who has no rows has no events either.
        return None, [f"needs no {key}" for key in own if key.startswith(PREFIX)]
    settings = {}
    for source in container["envFrom"]:
        settings |= maps[source["configMapRef"]["name"]]
    settings |= own
    problems = []
    user = settings.get(PREFIX + "SASL_USER")
    if user != ("migrate" if component == "migration" else service):
        problems.append(f"comes to Kafka as {user}")
    if settings.get(PREFIX + "SECURITY") != "tls":
        problems.append("talks to Kafka without TLS")
    if int(settings[PREFIX + "BROKERS"].rpartition(":")[2]) not in listeners:
        problems.append(f"{settings[PREFIX + 'BROKERS']} is no listener")
    volumes = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    for key, secret in [("TLS_CA_FILE", authority), ("SASL_PASSWORD_FILE", users.get(user))]:
        folder = settings.get(PREFIX + key, "").rpartition("/")[0]
        if secret is None or mounts.get(folder) != secret:
            problems.append(f"{key} is not of the secret {secret}")
    return user, problems


def scaler_faults(scaled, resources, maps, listeners, users, authority):
    """The user of a scaler's look at Kafka, and what is wrong with how it comes in."""
    logins = {it["metadata"]["name"]: it["spec"] for it in resources if it["kind"] == "TriggerAuthentication"}
    user, problems = None, []
    for trigger in scaled["spec"]["triggers"]:
        if trigger["type"] != "kafka":
            continue
        told = trigger["metadata"]
        if (told.get("sasl"), told.get("tls")) != ("scram_sha512", "enable"):
            problems.append("looks at Kafka without TLS and a login")
        if int(told["bootstrapServers"].rpartition(":")[2]) not in listeners:
            problems.append(f"{told['bootstrapServers']} is no listener")
        login = logins.get(trigger.get("authenticationRef", {}).get("name"), {})
        named = {one["parameter"]: maps.get(one["name"], {}).get(one["key"]) for one in login.get("configMapTargetRef", [])}
        user = named.get("username")
        wanted = {"password": (users.get(user), "password"), "ca": (authority, "ca.crt")}
        given = {one["parameter"]: (one["name"], one["key"]) for one in login.get("secretTargetRef", [])}
        if user not in users or given != wanted:
            problems.append(f"comes to Kafka as {user} with {given}")
    return user, problems
