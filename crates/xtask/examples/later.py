"""Topics with records of a version that is yet to come: types, members, headers and codes that nobody knows today. They have a
prefix of their own, so no service of Assent reads them."""

import json
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

AT = "2030-01-01T00:00:00.000000Z"


class Topics:
    def __init__(self, kafka, prefix):
        self.prefix = prefix
        self.states, self.events = f"{prefix}consent.state.v1", f"{prefix}consent.events.v1"
        admin = AdminClient({"bootstrap.servers": kafka})  # kept: without it, what it was asked for ends with an error
        made = admin.create_topics(
            [NewTopic(self.states, 6, 1, config={"cleanup.policy": "compact"}), NewTopic(self.events, 6, 1)]
        )
        for done in made.values():
            done.result(timeout=30)
        # Keys go where Java's client puts them, as Assent's do.
        self.producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})

    def state(self, key, reflects, data):
        self.write(self.states, key, {"ce_type": "assent.consent.state.v1", "ce_eventsequence": reflects, "ce_sequence": reflects}, data)

    def event(self, key, sequence, name, data):
        self.write(self.events, key, {"ce_type": f"assent.consent.{name}.v1", "ce_sequence": sequence}, data)

    def write(self, topic, key, headers, data):
        headers |= {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_source": "/assent/consent",
            "ce_time": AT,
            "ce_subject": key,
            "content-type": "application/json",
            "ce_addedlater": "nobody knows it",
        }
        faults = []
        self.producer.produce(
            topic,
            key=key,
            value=json.dumps(data),
            headers={name: str(value) for name, value in headers.items()},
            on_delivery=lambda fault, _: faults.append(fault),
        )
        assert self.producer.flush(30) == 0 and faults == [None], f"{topic}: {faults}"


def said(**more):
    """What a person said, with members that nobody knows."""
    return {"purpose": "marketing", "channel": "whatsapp", "at": AT, "added_later": {"deep": [1, None]}} | more
