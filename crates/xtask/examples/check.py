"""Holds what is written for other teams against a running cluster: the schemas, and the examples as those teams run them.

    check.py HOME ROOT

HOME is the cluster's folder, ROOT the workspace; the followers of the other languages have been prepared in HOME/node and
HOME/java.
"""

import base64
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
import uuid
from pathlib import Path

import later
import schemas

PATIENCE = 120


class Program:
    """A program whose lines are waited for."""

    def __init__(self, name, command, environment, folder):
        self.name, self.lines, self.changed = name, [], threading.Condition()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip())
                self.changed.notify_all()

    def until(self, what, holds):
        with self.changed:
            if not self.changed.wait_for(lambda: holds(self.lines), PATIENCE):
                raise AssertionError(f"{self.name} never says {what}:\n" + "\n".join(self.lines[-30:]))

    def end(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    def __init__(self, home):
        self.home = home
        addresses = json.loads((home / "cluster.json").read_text())["addresses"]
        self.url = f"http://127.0.0.1:{addresses['api']['gateway']}"
        self.kafka = f"127.0.0.1:{addresses['kafka']}"
        self.token = (home / "keys/tokens/operator").read_text().strip()
        self.environment = dict(
            os.environ,
            ASSENT_URL=self.url,
            ASSENT_TOKEN=self.token,
            ASSENT_KAFKA=self.kafka,
            PYTHONDONTWRITEBYTECODE="1",
        )

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def person(self, phone):
        return self.post("/vault/v1/subjects/lookup", {"phone": phone})["subject_id"]

    def say(self, word, person):
        body = {"subject_id": person, "purpose": "marketing", "channel": "whatsapp", "actor": "subject", "method": "api"}
        return self.post(f"/consent/v1/consents/{word}", body | ({"evidence": "bm9pc2U"} if word == "grant" else {}))

    def assent(self, *arguments):
        binary = Path(os.environ["ASSENT_BINARY"])
        done = subprocess.run(
            [binary, "--json", *arguments], env=self.environment, capture_output=True, text=True, timeout=2 * PATIENCE
        )
        assert done.returncode == 0, f"assent {' '.join(arguments[:2])}: {done.stdout} {done.stderr}"
        return json.loads(done.stdout)


def told(program, person, changes):
    """Waits until it has told so many changes of this person; they must be these."""
    program.until(f"{changes} of {person}", lambda lines: len(words(lines, person)) >= len(changes))
    said = words(program.lines, person)
    assert said == changes, f"{program.name}: {said} instead of {changes}"


def words(lines, person):
    return [line.split()[-1] for line in lines if line.startswith(person)]


def followers(cluster, examples):
    """Each starts from zero and follows: what was said before, what is said meanwhile, and who is gone."""
    first, second, gone = (cluster.person(f"+33 6 39 98 00 0{number}") for number in (1, 2, 3))
    for person in (first, gone):
        cluster.say("grant", person)
    programs = start_followers(cluster, examples, cluster.environment)
    try:
        for program in programs:
            told(program, first, ["given"])
        # The next word only when everybody has heard the last: a state record may take a reader past an event.
        cluster.say("withdraw", first)
        for program in programs:
            told(program, first, ["given", "withdrawn"])
        cluster.say("grant", first)
        cluster.say("grant", second)
        assert cluster.assent("erase", "+33 6 39 98 00 03", "--checked", "called_back", "--wait")["status"] == "completed"
        for program in programs:
            told(program, first, ["given", "withdrawn", "given"])
            told(program, second, ["given"])
            # Her erasure withdraws first; a state record may take a reader past that.
            program.until(f"that {gone} is forgotten", lambda lines: words(lines, gone)[-1:] == ["forgotten"])
    finally:
        for program in programs:
            program.end()
    cluster.erased_before = gone
    return f"{len(programs)} followers saw each change once, in order"


def start_followers(cluster, examples, environment):
    programs = [
        Program("follow.py", [sys.executable, examples / "python/follow.py"], environment, cluster.home),
        Program("follow.mjs", ["node", "follow.mjs"], environment, cluster.home / "node"),
        Program("Follow.java", ["java", "-cp", "lib/*", "Follow.java"], environment, cluster.home / "java"),
    ]
    try:
        for program in programs:
            program.until("that it follows", lambda lines: "following" in lines)
    except AssertionError:
        for program in programs:
            program.end()
        raise
    return programs


def strangers(cluster, examples):
    """Each passes over what it doesn't know, waits for what is missing, drops what comes twice, and has the same picture
    when it starts from zero again."""
    topics = later.Topics(cluster.kafka, f"later-{os.getpid()}.")
    environment = cluster.environment | {"ASSENT_PREFIX": topics.prefix}
    person, nobody = str(uuid.uuid4()), str(uuid.uuid4())
    topics.state(person, 1, {"consents": [later.said(state="given")], "added_later": True})
    programs = start_followers(cluster, examples, environment)
    expected = []

    def all_told(*changes):
        expected.extend(changes)
        for program in programs:
            told(program, person, expected)

    try:
        all_told("given")
        # A type that nobody knows, with a key that names nobody; and one about her, which counts.
        topics.event(nobody, 1, "channel_defined", {"channel": "sms"})
        topics.event(person, 2, "hinted", {"hint": [1, {"deep": None}]})
        topics.event(person, 3, "withdrawn", later.said())
        all_told("withdrawn")
        topics.event(person, 2, "granted", later.said())
        topics.event(person, 3, "granted", later.said())
        topics.event(person, 5, "granted", later.said())
        topics.event(person, 4, "refused", later.said())
        all_told("refused", "given")
        # A code that nobody knows, which allows nothing.
        topics.state(person, 6, {"consents": [later.said(state="paused")]})
        all_told("paused")
        # Nothing of hers is to be used, whatever she agrees to meanwhile, until the state says otherwise (Article 18).
        topics.event(person, 7, "restricted", {"request_id": str(uuid.uuid4())})
        topics.state(person, 7, {"consents": [later.said(state="given")], "restricted": True})
        all_told("restricted")
        topics.event(person, 8, "granted", later.said())
        topics.event(person, 9, "restriction_lifted", {"request_id": str(uuid.uuid4())})
        topics.state(person, 9, {"consents": [later.said(state="withdrawn")]})
        all_told("withdrawn")
        for program in programs:
            assert words(program.lines, nobody) == [], f"{program.name} told of nobody"
    finally:
        for program in programs:
            program.end()
    programs = start_followers(cluster, examples, environment)
    try:
        expected.clear()
        all_told("given", "paused", "restricted", "withdrawn")
    finally:
        for program in programs:
            program.end()
    return f"{len(programs)} followers passed over what they don't know, and lost no place"


def participant(cluster, examples):
    """A team's service takes part: its data is gone, its evidence is on the certificate, and it takes her in no more."""
    phone, name = "+44 7700 900004", "crm"
    person, database = cluster.person(phone), cluster.home / "crm.sqlite"
    database.unlink(missing_ok=True)
    cluster.assent("participant", "register", name, "--owner", "crm-team", "--key", "operator")
    listed = {one["name"]: one for one in cluster.assent("participant", "list")}
    assert listed[name]["owner"] == "crm-team", listed
    program = start(cluster, examples, name, database, cluster.environment)
    try:
        with sqlite3.connect(database) as db:
            db.execute("INSERT INTO people VALUES (?, 'regulars')", [person])
        certificate = cluster.home / "certificate.jws"
        erased = cluster.assent("erase", phone, "--checked", "called_back", "--certificate", str(certificate))
        assert erased["status"] == "completed", erased
    finally:
        program.end()
    payload = certificate.read_text().split(".")[1]
    certified = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    assert '"crm"' in certified and person not in certified, certified
    with_another_library(certificate.read_text(), cluster.home / "keys/certificates.pub.pem", examples)
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM people").fetchone() == (0,)
        # She, and who was erased before it registered.
        for erased in (person, cluster.erased_before):
            try:
                db.execute("INSERT INTO people VALUES (?, 'regulars')", [erased])
                raise AssertionError("an erased person was taken in")
            except sqlite3.IntegrityError:
                pass
    cluster.assent("participant", "retire", name)
    return "participant.py took part in an erasure and is on the certificate"


def with_another_library(certificate, key, examples):
    """A JOSE library that isn't ours reads the certificate, and refuses it with any character changed."""
    sys.path.insert(0, str(examples / "python"))
    from certificate import check

    key = key.read_bytes()
    assert check(certificate, key)["kept"]
    for place, character in enumerate(certificate):
        changed = certificate[:place] + ("B" if character == "A" else "A") + certificate[place + 1 :]
        try:
            check(changed, key)
        except Exception:  # whatever the library says
            continue
        raise AssertionError(f"a change at {place} isn't noticed")


def called_participant(cluster, examples):
    """A team's service that is called takes part: by an address, through a rotation of its secret. So do services in two
    other languages, which read the commands from Kafka."""
    phone, name = "+33 6 39 98 00 02", "newsletter"
    person, database, port = cluster.person(phone), cluster.home / "newsletter.sqlite", free_port()
    database.unlink(missing_ok=True)
    address = f"http://127.0.0.1:{port}/assent"
    register = ["participant", "register", name, "--owner", "newsletter-team", "--key", "operator"]
    first = cluster.assent(*register, "--webhook", address)["secret"]
    assert "secret" not in cluster.assent(*register, "--webhook", address), "it is shown once"
    cluster.assent("participant", "rotate", name)  # the service has only the secret of before
    environment = cluster.environment | {"ASSENT_WEBHOOK_SECRET": first}
    program = start(cluster, examples, name, database, environment, module="webhook_participant", more=[str(port)])
    # It left, and still has to answer.
    other = start(cluster, examples, "crm", cluster.home / "crm.sqlite", cluster.environment)
    colleagues = {}
    try:
        for colleague, (folder, command) in COLLEAGUES.items():
            colleagues[colleague] = start_colleague(cluster, colleague, folder, command, person)
        with sqlite3.connect(database) as db:
            db.execute("INSERT INTO people VALUES (?, 'readers')", [person])
        certificate = cluster.home / "newsletter.jws"
        erased = cluster.assent("erase", phone, "--checked", "called_back", "--certificate", str(certificate))
        assert erased["status"] == "completed", erased
        for one in (program, *colleagues.values()):
            one.until("that its last answer was heard", lambda lines: "sweep answered" in lines)
            answered = [line.split()[0] for line in one.lines if line.endswith("answered")]
            assert list(dict.fromkeys(answered)) == ["fence", "delete", "sweep"], (one.name, one.lines)
    finally:
        for one in (program, other, *colleagues.values()):
            one.end()
    payload = certificate.read_text().split(".")[1]
    certified = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    for one in (name, *colleagues):
        cluster.assent("participant", "retire", one)
        assert f'"{one}"' in certified, certified
    for colleague in colleagues:
        left = json.loads((cluster.home / f"{colleague}.json").read_text())
        assert left["people"] == {} and person in left["fenced"], left
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM people").fetchone() == (0,)
    return "webhook_participant.py was called; it and participants in Node and Java took part in an erasure and are on the certificate"


# A participant in each other language: where its program is, and how it is started.
COLLEAGUES = {
    "shop": ("node", ["node", "participant.mjs"]),
    "warehouse": ("java", ["java", "-cp", "lib/*", "Participant.java"]),
}


def start_colleague(cluster, name, folder, command, person):
    """Registered, with her in its file, and listening."""
    cluster.assent("participant", "register", name, "--owner", f"{name}-team", "--key", "operator")
    file = cluster.home / f"{name}.json"
    file.write_text(json.dumps({"people": {person: "regulars"}}))
    program = Program(command[-1], [*command, name, str(file)], cluster.environment, cluster.home / folder)
    try:
        program.until("that it listens", lambda lines: "listening" in lines)
    except AssertionError:
        program.end()
        raise
    return program


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(cluster, examples, name, database, environment, sabotage="", module="participant", more=()):
    """The example, as it is or with something broken in it."""
    code = f"import {module}, participant, sys\n{sabotage}\n{module}.main(*sys.argv[1:])"
    command = [sys.executable, "-u", "-c", code, name, str(database), *more]
    program = Program(f"{module}.py", command, environment, examples / "python")
    try:
        program.until("that it listens", lambda lines: "listening" in lines)
    except AssertionError:
        program.end()
        raise
    return program


# What each breaks, and what the kit then says.
SABOTAGE = {
    "asked = participant.asked\n"
    "participant.asked = lambda _, message: asked('somebody-else', message) or asked('crm', message)": "it answered a command for somebody else",
    "evidence = participant.evidence_of\n"
    "import secrets\n"
    "participant.evidence_of = lambda *of: evidence(*of) | {'digest': secrets.token_hex(32)}\n"
    "participant.SCHEMA += 'CREATE TRIGGER t AFTER INSERT ON done BEGIN DELETE FROM done; END;'": "the evidence is another",
    "participant.STEPS['sweep'] = lambda db, subject: [('people', subject)]": "not_empty",
}


def kit(cluster, examples):
    """The conformance kit finds nothing in the example, and each thing that is broken in it."""
    for number, (sabotage, found) in enumerate([("", None), *SABOTAGE.items()]):
        prefix, database = f"rehearsal-{number}.", cluster.home / f"rehearsal-{number}.sqlite"
        database.unlink(missing_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        rehearse = ["participant", "check", "crm", "--brokers", cluster.kafka, "--prefix", prefix, "--listen", address]
        check = Program("the kit", [os.environ["ASSENT_BINARY"], *rehearse], cluster.environment, cluster.home)
        environment = cluster.environment | {
            "ASSENT_PREFIX": prefix,
            "ASSENT_URL": f"http://{address}",
            "ASSENT_TOKEN": "rehearsal",
        }
        try:
            check.until("where to start the service", lambda lines: any("start your service" in line for line in lines))
            program = start(cluster, examples, "crm", database, environment, sabotage)
            try:
                status = check.process.wait(timeout=3 * PATIENCE)
            finally:
                program.end()
            check.until("what it found last", lambda lines: any("it passes over" in line for line in lines))
        finally:
            check.end()
        judged(check, status, found)
    return f"the conformance kit passes the example, and finds each of {len(SABOTAGE)} faults"


def judged(check, status, found):
    """What the kit says is what was to be found, and nothing else."""
    said = "\n".join(check.lines)
    faults = [line.strip() for line in check.lines if line.startswith("       ")]
    if found is None:
        assert status == 0 and not faults, said
    else:
        assert status == 1 and faults and all(found in fault for fault in faults), f"{found}: {said}"


# The same for the one that is called.
CALLED_SABOTAGE = {
    "webhook_participant.genuine = lambda *_: True": "a call",
    "webhook_participant.TOLERANCE_S = 10**9": "signed an hour ago",
    "asked = webhook_participant.asked\n"
    "webhook_participant.asked = lambda _, event: asked('somebody-else', event) or asked('crm', event)": "it answered a command for somebody else",
}


def called_kit(cluster, examples):
    """The kit calls the example: nothing is found in it, and each thing that is broken in it is."""
    for number, (sabotage, found) in enumerate([("", None), *CALLED_SABOTAGE.items()]):
        database = cluster.home / f"called-{number}.sqlite"
        database.unlink(missing_ok=True)
        port, address = free_port(), f"127.0.0.1:{free_port()}"
        rehearse = ["participant", "check", "crm", "--webhook", f"http://127.0.0.1:{port}/assent", "--listen", address]
        check = Program("the kit", [os.environ["ASSENT_BINARY"], *rehearse], cluster.environment, cluster.home)
        try:
            check.until("where to start the service", lambda lines: any("start your service" in line for line in lines))
            [told] = [line for line in check.lines if "start your service" in line]
            secret = next(word for word in told.split() if word.startswith("ASSENT_WEBHOOK_SECRET=")).partition("=")[2]
            environment = cluster.environment | {
                "ASSENT_URL": f"http://{address}",
                "ASSENT_TOKEN": "rehearsal",
                "ASSENT_WEBHOOK_SECRET": secret,
            }
            module, more = "webhook_participant", [str(port)]
            program = start(cluster, examples, "crm", database, environment, sabotage, module, more)
            try:
                status = check.process.wait(timeout=3 * PATIENCE)
            finally:
                program.end()
            check.until("what it found last", lambda lines: any("it passes over" in line for line in lines))
        finally:
            check.end()
        judged(check, status, found)
    return f"the kit calls the example too, and finds each of {len(CALLED_SABOTAGE)} faults"


if __name__ == "__main__":
    cluster, root = Cluster(Path(sys.argv[1]).resolve()), Path(sys.argv[2]).resolve()
    described = schemas.read(root / "docs/schemas")
    document = json.loads((root / "docs/asyncapi/assent.json").read_text())
    print(" ", schemas.check_golden(described), flush=True)
    print(" ", followers(cluster, root / "docs/examples"), flush=True)
    print(" ", strangers(cluster, root / "docs/examples"), flush=True)
    print(" ", participant(cluster, root / "docs/examples"), flush=True)
    print(" ", kit(cluster, root / "docs/examples"), flush=True)
    print(" ", called_participant(cluster, root / "docs/examples"), flush=True)
    print(" ", called_kit(cluster, root / "docs/examples"), flush=True)
    print(" ", schemas.check_published(described, document, cluster.kafka, "assent."), flush=True)
