"""Follows everyone's consents: the compacted state from zero, then the events without a gap. Prints a line per change.

    ASSENT_KAFKA=127.0.0.1:7192 python follow.py

The rules are those of docs/guides/consuming.md. It keeps its picture in memory and starts from zero each time; who keeps
it in a database writes the sequence beside it, in the same transaction.
"""

import os
import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

PREFIX = os.environ.get("ASSENT_PREFIX", "assent.")
STATE, EVENTS = f"{PREFIX}consent.state.v1", f"{PREFIX}consent.events.v1"
SAYS = {
    "assent.consent.granted.v1": "given",
    "assent.consent.requested.v1": "requested",
    "assent.consent.refused.v1": "refused",
    "assent.consent.withdrawn.v1": "withdrawn",
    "assent.consent.expired.v1": "expired",
}
# There may be several restrictions at once: the state record that was written with each says whether one still stands.
LEFT_TO_THE_STATE = {"assent.consent.restricted.v1", "assent.consent.restriction_lifted.v1"}
# Their keys name no person: purposes, the policy, the rules, batches of claims.
ABOUT_NOBODY = {
    f"assent.consent.{name}.v1"
    for name in ("purpose_defined", "purpose_retired", "policy_applied", "rules_loaded", "claims_submitted", "claims_decided")
}


class Picture:
    """What holds for each person, and the sequence of the last event in it."""

    def __init__(self, tell, now=lambda: datetime.now(timezone.utc)):
        self.tell, self.now = tell, now
        self.sequence = {}  # person -> last event sequence
        self.lines = {}  # person -> {(purpose, channel): (state, when a consent ends by itself, or None)}
        self.restricted = set()  # whose data are not to be used at present, whatever their lines say (GDPR Article 18)
        self.told = {}  # person -> {(purpose, channel): state}
        self.waiting = {}  # person -> {sequence: (type, data)}

    def state(self, person, reflects, data):
        """A state record: older than what is known is ignored, else it replaces the picture. No data: forget her."""
        if reflects < self.sequence.get(person, 0):
            return
        (self.restricted.add if (data or {}).get("restricted") else self.restricted.discard)(person)
        consents = (data or {}).get("consents", [])
        self.replace(person, reflects, {(line["purpose"], line["channel"]): line_of(line["state"], line) for line in consents})
        if data is None:
            self.tell(person, reflects, "forgotten")
        self.go_on(person)

    def event(self, person, sequence, kind, data):
        """An event: kept until it is the next one; known ones are dropped."""
        if sequence > self.sequence.get(person, 0):
            self.waiting.setdefault(person, {})[sequence] = (kind, data)
            self.go_on(person)

    def go_on(self, person):
        waiting = self.waiting.get(person, {})
        for known in [known for known in waiting if known <= self.sequence.get(person, 0)]:
            del waiting[known]
        while (following := self.sequence.get(person, 0) + 1) in waiting:
            kind, data = waiting[following]
            if "acted_at" in data or kind in LEFT_TO_THE_STATE:
                return  # told later than it happened, or a restriction: the state record of the same sequence says what holds
            del waiting[following]
            self.replace(person, following, self.after(person, kind, data))
        if not waiting:
            self.waiting.pop(person, None)

    def after(self, person, kind, data):
        lines = dict(self.lines.get(person, {}))
        if kind == "assent.consent.erased.v1":
            return {}
        if kind not in SAYS:
            return lines  # a type that isn't known changes no line
        purpose, channel, says = data["purpose"], data["channel"], line_of(SAYS[kind], data)
        if SAYS[kind] == "requested":
            # She confirms or doesn't: what she said before, about this or about all, holds until then.
            if any(of in ("*", purpose) and on in ("*", channel) and state != "requested" for (of, on), (state, _) in lines.items()):
                return lines
        for of, on in lines:
            if purpose in ("*", of) and channel in ("*", on):
                lines[of, on] = says
        lines[purpose, channel] = says
        return lines

    def replace(self, person, sequence, after):
        self.sequence[person], self.lines[person] = sequence, after
        self.tell_changes(person)

    def pass_time(self):
        """Consents end by themselves. Who follows many keeps them in the order of their ends."""
        for person in self.lines:
            self.tell_changes(person)

    def tell_changes(self, person):
        before, now = self.told.get(person, {}), self.now()
        restricted = person in self.restricted
        self.told[person] = {
            scope: "restricted" if restricted else state_at(line, now) for scope, line in sorted(self.lines[person].items())
        }
        for (purpose, channel), state in self.told[person].items():
            if before.get((purpose, channel)) != state:
                self.tell(person, self.sequence[person], f"{purpose}/{channel} {state}")


def line_of(state, data):
    until = data.get("valid_until") if state == "given" else None
    return state, until and datetime.fromisoformat(until)


def state_at(line, now):
    state, until = line
    return "expired" if until is not None and until <= now else state


def read(picture, message):
    event = from_binary_event(KafkaMessage(headers=dict(message.headers()), key=message.key(), value=message.value()))
    person, data = message.key().decode(), event.get_data()
    if message.topic() == STATE:
        picture.state(person, int(event.get_extension("eventsequence")), data)
    elif event.get_type() not in ABOUT_NOBODY:
        picture.event(person, int(event.get_extension("sequence")), event.get_type(), data)


def positions(consumer):
    """The state from its beginning, the events from where they end now: between the two nothing is missing."""
    partitions = consumer.list_topics(EVENTS, timeout=10).topics[EVENTS].partitions
    for partition in partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(EVENTS, partition), timeout=10)
        yield TopicPartition(EVENTS, partition, end)
        yield TopicPartition(STATE, partition, OFFSET_BEGINNING)


def main():
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("ASSENT_KAFKA", "127.0.0.1:7192"),
        "group.id": "example",  # the client wants one; positions are kept here, not there
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    })
    consumer.assign(list(positions(consumer)))
    picture = Picture(lambda person, sequence, what: print(person, sequence, what, flush=True))
    print("following", file=sys.stderr, flush=True)
    while True:
        message = consumer.poll(1.0)
        if message is None:
            picture.pass_time()
            continue
        if message.error():
            raise KafkaException(message.error())
        read(picture, message)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
