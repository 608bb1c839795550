"""Whether the JSON Schemas of events are such, and say what is so: of the golden events, and of all that a cluster has
published. Its envelopes are read by CloudEvents' own library."""

import copy
import json

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from jsonschema import Draft202012Validator


def read(folder):
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def check_golden(schemas):
    """Every example is valid, and none is without one of its required members."""
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for example in schema["examples"]:
            faults = [fault.message for fault in validator.iter_errors(example)]
            assert not faults, f"{name}: {faults}"
            for member in schema["required"]:
                less = copy.deepcopy(example)
                del less[member]
                assert not validator.is_valid(less), f"{name} is valid without {member}"
    return f"{len(schemas)} schemas, their golden events valid"


def check_published(schemas, document, kafka, prefix):
    """Every record of every topic: its envelope, its headers as the AsyncAPI document says, its data."""
    messages = {message["name"]: message for message in document["components"]["messages"].values()}
    seen = {}
    for channel in document["channels"].values():
        if "kafka" not in channel["bindings"]:
            continue  # calls: what they carry is looked at where they arrive
        topic = prefix + channel["title"]
        for message in records(kafka, topic, channel["bindings"]["kafka"]["partitions"]):
            headers = {name: value.decode() for name, value in message.headers()}
            kind, data = headers["ce_type"], message.value()
            Draft202012Validator(messages[kind]["headers"]).validate(headers)
            if data is not None:
                Draft202012Validator(schemas[kind]).validate(json.loads(data))
            event = from_binary_event(KafkaMessage(headers=dict(message.headers()), key=message.key(), value=data))
            assert event.get_type() == kind and event.get_subject() == message.key().decode()
            assert (event.get_data() is None) == (data is None)
            seen[kind] = seen.get(kind, 0) + 1
    assert len(seen) > 5, seen
    return f"{sum(seen.values())} records of {len(seen)} types as described"


def records(kafka, topic, partitions):
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "check", "enable.auto.commit": False})
    ends = {}
    for partition in range(partitions):
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
        if end > start:
            ends[partition] = end
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
    while ends:
        message = consumer.poll(30)
        assert message is not None and not message.error(), f"{topic}: {message and message.error()}"
        if message.offset() + 1 >= ends.get(message.partition(), 0):
            ends.pop(message.partition(), None)
        yield message
    consumer.close()
