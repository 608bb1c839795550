// Follows everyone's consents: the compacted state from zero, then the events without a gap. Prints a line per change.
//
//     npm ci && ASSENT_KAFKA=127.0.0.1:7192 node follow.mjs
//
// The rules are those of docs/guides/consuming.md. It keeps its picture in memory and starts from zero each time; who keeps
// it in a database writes the sequence beside it, in the same transaction.

import { Kafka as CloudEvents } from "cloudevents";
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
// There may be several restrictions at once: the state record that was written with each says whether one still stands.
const LEFT_TO_THE_STATE = ["assent.consent.restricted.v1", "assent.consent.restriction_lifted.v1"];
// Their keys name no person: purposes, the policy, the rules, batches of claims.
const ABOUT_NOBODY = /^assent\.consent\.(purpose_defined|purpose_retired|policy_applied|rules_loaded|claims_submitted|claims_decided)\.v1$/;

/** What holds for each person, and the sequence of the last event in it. */
class Picture {
  // person -> {sequence, lines: Map("purpose/channel" -> {state, until}), told: Map(the same -> state), waiting: Map(sequence -> event),
  // restricted: her data are not to be used at present, whatever her lines say (GDPR Article 18)}
  #people = new Map();

  constructor(tell) {
    this.tell = tell;
  }

  #of(person) {
    if (!this.#people.has(person)) {
      this.#people.set(person, { sequence: 0, lines: new Map(), restricted: false, told: new Map(), waiting: new Map() });
    }
    return this.#people.get(person);
  }

  /** A state record: older than what is known is ignored, else it replaces the picture. No data: forget her. */
  state(person, reflects, data) {
    if (reflects < this.#of(person).sequence) return;
    this.#of(person).restricted = data?.restricted === true;
    const lines = (data?.consents ?? []).map((line) => [`${line.purpose}/${line.channel}`, lineOf(line.state, line)]);
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
      // What was told later than it happened, or restricts, waits: the state record of the same sequence says what holds.
      if (next === undefined || next.data.acted_at !== undefined || LEFT_TO_THE_STATE.includes(next.kind)) return;
      known.waiting.delete(known.sequence + 1);
      this.#replace(person, known.sequence + 1, this.#after(known.lines, next));
    }
  }

  #after(before, { kind, data }) {
    if (kind === "assent.consent.erased.v1") return new Map();
    const lines = new Map(before);
    const state = SAYS[kind];
    if (state === undefined) return lines; // a type that isn't known changes no line
    const own = `${data.purpose}/${data.channel}`;
    // She confirms or doesn't: what she said before, about this or about all, holds until then.
    const word = ([line, said]) => covers(line, own) && said.state !== "requested";
    if (state === "requested" && [...lines].some(word)) return lines;
    for (const line of lines.keys()) {
      if (covers(own, line)) lines.set(line, lineOf(state, data));
    }
    return lines.set(own, lineOf(state, data));
  }

  #replace(person, sequence, after) {
    const known = this.#of(person);
    known.sequence = sequence;
    known.lines = after;
    this.#tellChanges(person, known);
  }

  /** Consents end by themselves. Who follows many keeps them in the order of their ends. */
  passTime() {
    for (const [person, known] of this.#people) this.#tellChanges(person, known);
  }

  #tellChanges(person, known) {
    const before = known.told;
    const state = (said) => (known.restricted ? "restricted" : stateAt(said, Date.now()));
    known.told = new Map([...known.lines].sort().map(([line, said]) => [line, state(said)]));
    for (const [line, state] of known.told) {
      if (before.get(line) !== state) this.tell(person, known.sequence, `${line} ${state}`);
    }
  }
}

/** What is said, and when a consent ends by itself, if it does. */
function lineOf(state, data) {
  return { state, until: state === "given" && data.valid_until ? Date.parse(data.valid_until) : undefined };
}

function stateAt({ state, until }, now) {
  return until <= now ? "expired" : state;
}

function covers(all, one) {
  const [purpose, channel] = one.split("/");
  const [everyPurpose, everyChannel] = all.split("/");
  return ["*", purpose].includes(everyPurpose) && ["*", channel].includes(everyChannel);
}

/** The library wants headers as text, and takes no record without a value: "forget her" is read as one that says null. */
function eventOf({ headers, value }) {
  const text = Object.entries(headers).map(([name, it]) => [name, it.toString()]);
  return CloudEvents.toEvent({ headers: Object.fromEntries(text), value: value ?? "null" });
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
// Whenever it gets partitions, also after a rebalance: no positions are committed anywhere.
consumer.on(consumer.events.GROUP_JOIN, () => {
  for (const { partition, high } of ends) consumer.seek({ topic: EVENTS, partition, offset: high });
});
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, message }) => {
    const { type, sequence, eventsequence, data } = eventOf(message);
    const person = message.key.toString();
    if (topic === STATE) picture.state(person, Number(eventsequence), data);
    else if (!ABOUT_NOBODY.test(type)) picture.event(person, Number(sequence), type, data);
  },
});
setInterval(() => picture.passTime(), 1000);
console.error("following");
