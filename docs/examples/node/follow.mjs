// Follows everyone's consents: the compacted state from zero, then the events without a gap. Prints a line per change.
//
//     npm ci && ASSENT_KAFKA=127.0.0.1:7192 node follow.mjs
//
// The rules are those of docs/guides/consuming.md. It keeps its picture in memory and starts from zero each time; who keeps
// it in a database writes the sequence beside it, in the same transaction.

import { Kafka, logLevel } from "kafkajs";

const PREFIX = process.env.ASSENT_PREFIX ?? "assent.";
const STATE = `${PREFIX}consent.state.v1`;
const EVENTS = `${PREFIX}consent.events.v1`;
const SAYS = {
  "assent.consent.granted.v1": "given",
  "assent.consent.requested.v1": "requested",
  "assent.consent.refused.v1": "refused",
  "assent.consent.withdrawn.v1": "withdrawn",
  "assent.consent.expired.v1": "expired",
};
// Their keys name no person: purposes, the policy, the rules, batches of claims.
const ABOUT_NOBODY = /^assent\.consent\.(purpose_defined|purpose_retired|policy_applied|rules_loaded|claims_submitted|claims_decided)\.v1$/;

/** What holds for each person, and the sequence of the last event in it. */
class Picture {
  #people = new Map(); // person -> {sequence, lines: Map("purpose/channel" -> state), waiting: Map(sequence -> event)}

  constructor(tell) {
    this.tell = tell;
  }

  #of(person) {
    if (!this.#people.has(person)) {
      this.#people.set(person, { sequence: 0, lines: new Map(), waiting: new Map() });
    }
    return this.#people.get(person);
  }

  /** A state record: older than what is known is ignored, else it replaces the picture. No data: forget her. */
  state(person, reflects, data) {
    if (reflects < this.#of(person).sequence) return;
    const lines = (data?.consents ?? []).map((line) => [`${line.purpose}/${line.channel}`, line.state]);
    this.#replace(person, reflects, new Map(lines));
    if (data === null) this.tell(person, reflects, "forgotten");
    this.#goOn(person);
  }

  /** An event: kept until it is the next one; known ones are dropped. */
  event(person, sequence, kind, data) {
    const known = this.#of(person);
    if (sequence > known.sequence) {
      known.waiting.set(sequence, { kind, data });
      this.#goOn(person);
    }
  }

  #goOn(person) {
    const known = this.#of(person);
    for (const sequence of [...known.waiting.keys()]) {
      if (sequence <= known.sequence) known.waiting.delete(sequence);
    }
    for (;;) {
      const next = known.waiting.get(known.sequence + 1);
      // What was told later than it happened waits: the state record of the same sequence says what holds.
      if (next === undefined || next.data.acted_at !== undefined) return;
      known.waiting.delete(known.sequence + 1);
      this.#replace(person, known.sequence + 1, this.#after(known.lines, next));
    }
  }

  #after(before, { kind, data }) {
    if (kind === "assent.consent.erased.v1") return new Map();
    const lines = new Map(before);
    const state = SAYS[kind];
    if (state === undefined) return lines; // a type that isn't known changes no line
    for (const line of lines.keys()) {
      const [purpose, channel] = line.split("/");
      if (["*", purpose].includes(data.purpose) && ["*", channel].includes(data.channel)) lines.set(line, state);
    }
    return lines.set(`${data.purpose}/${data.channel}`, state);
  }

  #replace(person, sequence, after) {
    const known = this.#of(person);
    const before = known.lines;
    known.sequence = sequence;
    known.lines = after;
    for (const [line, state] of [...after].sort()) {
      if (before.get(line) !== state) this.tell(person, sequence, `${line} ${state}`);
    }
  }
}

const kafka = new Kafka({
  clientId: "example",
  brokers: (process.env.ASSENT_KAFKA ?? "127.0.0.1:7192").split(","),
  logLevel: logLevel.ERROR,
});

// The events from where they end now, the state from its beginning: between the two nothing is missing.
const admin = kafka.admin();
await admin.connect();
const ends = await admin.fetchTopicOffsets(EVENTS);
await admin.disconnect();

// A group of its own each time: this client can't read without one, and positions are kept here.
const consumer = kafka.consumer({ groupId: `example-${process.pid}-${Date.now()}` });
await consumer.connect();
await consumer.subscribe({ topics: [STATE, EVENTS], fromBeginning: true });

const picture = new Picture((person, sequence, what) => console.log(person, sequence, what));
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, message }) => {
    const header = (name) => message.headers[name].toString();
    const person = message.key.toString();
    const data = message.value === null ? null : JSON.parse(message.value.toString());
    if (topic === STATE) picture.state(person, Number(header("ce_eventsequence")), data);
    else if (!ABOUT_NOBODY.test(header("ce_type"))) {
      picture.event(person, Number(header("ce_sequence")), header("ce_type"), data);
    }
  },
});
for (const { partition, high } of ends) {
  consumer.seek({ topic: EVENTS, partition, offset: high });
}
console.error("following");
