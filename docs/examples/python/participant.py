"""Takes part in erasures: a service with a little database of people that forgets whom Assent says.

    assent participant register crm --owner crm-team --key crm
    ASSENT_KAFKA=127.0.0.1:7192 ASSENT_URL=http://127.0.0.1:7100 ASSENT_TOKEN=… python participant.py crm crm.sqlite
The contract is docs/guides/participants.md; `assent participant check` holds a service against it.
"""

import hashlib
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.request

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.exceptions import BaseCloudEventException
from confluent_kafka import Consumer, KafkaException, TopicPartition

PREFIX = os.environ.get("ASSENT_PREFIX", "assent.")
COMMAND = "assent.erasure.command.v1"
SCHEMA = """
    CREATE TABLE IF NOT EXISTS people (subject_id TEXT PRIMARY KEY, segment TEXT);
    CREATE TABLE IF NOT EXISTS fenced (subject_id TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS done (command_id TEXT PRIMARY KEY, evidence TEXT);
    CREATE TRIGGER IF NOT EXISTS refuse BEFORE INSERT ON people
    WHEN EXISTS (SELECT 1 FROM fenced WHERE subject_id = new.subject_id)
    BEGIN SELECT RAISE(ABORT, 'erased'); END;
"""


def fence(db, subject):
    """From here on the trigger refuses new data about her, in the transaction of each write."""
    db.execute("INSERT OR IGNORE INTO fenced VALUES (?)", [subject])
    return [("fences", subject)]


def delete(db, subject):
    gone = db.execute("DELETE FROM people WHERE subject_id = ? RETURNING subject_id", [subject])
    return [("people", row[0]) for row in gone]


def sweep(db, subject):
    return [("people", row[0]) for row in db.execute("SELECT subject_id FROM people WHERE subject_id = ?", [subject])]


STEPS = {"fence": fence, "delete": delete, "sweep": sweep}


def carry_out(db, command):
    """Does the step once, however often it is asked, and keeps its evidence in the transaction of the work."""
    with db:
        done = db.execute("SELECT evidence FROM done WHERE command_id = ?", [command["command_id"]]).fetchone()
        if done:
            return json.loads(done[0])
        evidence = evidence_of({"people": 0}, STEPS[command["step"]](db, command["subject_id"]))
        if command["step"] != "sweep":  # that one looks anew each time
            db.execute("INSERT INTO done VALUES (?, ?)", [command["command_id"], json.dumps(evidence)])
        return evidence


def evidence_of(counts, touched):
    """Counts by kind, and a digest over the sorted list of what was touched. Names are ids, never personal data."""
    for kind, _ in touched:
        counts[kind] = counts.get(kind, 0) + 1
    lines = sorted(f"{kind} {name}\n" for kind, name in touched)
    # It reads none of the topics that a barrier names, so it has no positions to tell.
    return {"counts": counts, "digest": hashlib.sha256("".join(lines).encode()).hexdigest(), "positions": {}}


def call(path, body=None):
    request = urllib.request.Request(
        os.environ["ASSENT_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {os.environ['ASSENT_TOKEN']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def answer(name, command, evidence):
    """Answers once. What was heard or is refused for good is over; None: come again."""
    ack = {"command_id": command["command_id"], "step": command["step"], "participant": name, "evidence": evidence}
    try:
        call(f"/erasure/v1/requests/{command['request_id']}/acks", ack)
        return "answered"
    except urllib.error.HTTPError as refused:
        reason = reason_of(refused)
        print(command["step"], "not taken:", reason, flush=True)
        # A sweep that found something looks again; without a right (401, 403) somebody has to give it one.
        return f"refused: {reason}" if refused.code in (404, 409, 422) and reason != "not_empty" else None
    except OSError as away:
        print(command["step"], "not heard:", type(away).__name__, flush=True)
        return None


def reason_of(refused):
    try:
        return json.load(refused).get("reason", refused.code)
    except (AttributeError, ValueError):
        return refused.code


def load_erased(db):
    """A newcomer forgets everyone who is erased before it takes anybody in."""
    cursor = ""
    while True:
        try:
            page = call(f"/erasure/v1/erased?limit=500{cursor}")
        except OSError as away:  # a refusal (HTTPError) is one too
            print("the erased can't be loaded yet:", away, flush=True)
            time.sleep(1)
            continue
        with db:
            for erased in page["items"]:
                fence(db, erased["subject_id"])
                delete(db, erased["subject_id"])
        if not page.get("next"):
            return
        cursor = f"&cursor={page['next']}"


def asked(name, message):
    """The command, if it is one that this participant is asked and knows how to do."""
    try:
        event = from_binary_event(KafkaMessage(headers=dict(message.headers() or []), key=message.key(), value=message.value()))
        command = event.get_data()
        is_ours = event.get_type() == COMMAND and name in command["participants"] and command["step"] in STEPS
        return command if is_ours else None
    except (BaseCloudEventException, AttributeError, KeyError, TypeError, ValueError):
        return None  # whatever else stands there


def main(name, database):
    db = sqlite3.connect(database)
    db.executescript(SCHEMA)
    load_erased(db)
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("ASSENT_KAFKA", "127.0.0.1:7192"),
        "group.id": PREFIX + name,  # a rehearsal has positions of its own
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })
    consumer.subscribe([PREFIX + "erasure.commands.v1"])
    print("listening", flush=True)
    try:
        follow(consumer, db, name)
    finally:
        consumer.close()  # its partitions are somebody else's at once


def follow(consumer, db, name):
    pause = 0.2
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        if command := asked(name, message):
            outcome = answer(name, command, carry_out(db, command))
            if outcome is None:
                if command["step"] == "sweep":
                    with db:
                        delete(db, command["subject_id"])
                # It is read again, so the client is polled and stays in its group however long this takes.
                consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset()))
                time.sleep(pause)
                pause = min(2 * pause, 30)
                continue
            print(command["step"], outcome, flush=True)
        pause = 0.2
        # Only now: what wasn't answered is read again after a crash.
        consumer.commit(message, asynchronous=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
