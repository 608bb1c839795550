// Takes part in erasures: a service with a little file of people that forgets whom Assent says.
//
//     assent participant register shop --owner shop-team --key shop
//     npm ci && ASSENT_KAFKA=127.0.0.1:7192 ASSENT_URL=http://127.0.0.1:7100 ASSENT_TOKEN=… node participant.mjs shop shop.json
//
// The contract is docs/guides/participants.md. The file stands for a database: each write replaces it whole, as a transaction would.

import { createHash } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Kafka as CloudEvents } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const PREFIX = process.env.ASSENT_PREFIX ?? "assent.";
const COMMAND = "assent.erasure.command.v1";
const [NAME, FILE] = process.argv.slice(2);

/** people: id -> segment. fenced: who is taken in no more. done: command -> its evidence. */
const NOBODY = { people: {}, fenced: [], done: {} };
const store = existsSync(FILE) ? { ...NOBODY, ...JSON.parse(readFileSync(FILE)) } : NOBODY;

function keep() {
  const draft = openSync(`${FILE}.draft`, "w");
  writeSync(draft, JSON.stringify(store));
  fsyncSync(draft);
  closeSync(draft);
  renameSync(`${FILE}.draft`, FILE);
}

/** Whatever takes people in asks here first. */
export function takeIn(person, segment) {
  if (store.fenced.includes(person)) throw new Error("erased");
  store.people[person] = segment;
  keep();
}

// Each returns what it touched: kind and name. Names are ids, never personal data.
const STEPS = {
  fence(person) {
    if (!store.fenced.includes(person)) store.fenced.push(person);
    return [["fences", person]];
  },
  delete(person) {
    const there = person in store.people;
    delete store.people[person];
    return there ? [["people", person]] : [];
  },
  sweep: (person) => (person in store.people ? [["people", person]] : []),
};

/** Does the step once, however often it is asked, and keeps its evidence with the work. */
function carryOut(command) {
  const known = store.done[command.command_id];
  if (known) return known;
  const evidence = evidenceOf(STEPS[command.step](command.subject_id));
  if (command.step !== "sweep") store.done[command.command_id] = evidence; // that one looks anew each time
  keep();
  return evidence;
}

/** Counts by kind, and a digest over the sorted list of what was touched. It reads no other topic, so it has no positions. */
function evidenceOf(touched) {
  const counts = { people: 0 };
  for (const [kind] of touched) counts[kind] = (counts[kind] ?? 0) + 1;
  const lines = touched.map(([kind, name]) => `${kind} ${name}\n`).sort();
  return { counts, digest: createHash("sha256").update(lines.join("")).digest("hex"), positions: {} };
}

function call(path, body) {
  return fetch(process.env.ASSENT_URL + path, {
    method: body ? "POST" : "GET",
    body: body && JSON.stringify(body),
    headers: { authorization: `Bearer ${process.env.ASSENT_TOKEN}`, "content-type": "application/json" },
    signal: AbortSignal.timeout(30_000),
  });
}

/** Answers once. What was heard or is refused for good is over; undefined: come again. */
async function answer(command, evidence) {
  const ack = { command_id: command.command_id, step: command.step, participant: NAME, evidence };
  try {
    const heard = await call(`/erasure/v1/requests/${command.request_id}/acks`, ack);
    if (heard.ok) return "answered";
    const { reason = heard.status } = await heard.json().catch(() => ({}));
    console.log(command.step, "not taken:", reason);
    // A sweep that found something looks again; without a right (401, 403) somebody has to give it one.
    return [404, 409, 422].includes(heard.status) && reason !== "not_empty" ? `refused: ${reason}` : undefined;
  } catch (away) {
    console.log(command.step, "not heard:", away.name);
    return undefined;
  }
}

/** A newcomer forgets everyone who is erased before it takes anybody in. */
async function loadErased() {
  let cursor = "";
  for (;;) {
    const page = await call(`/erasure/v1/erased?limit=500${cursor}`).then((it) => (it.ok ? it.json() : undefined)).catch(() => undefined);
    if (page === undefined) {
      console.log("the erased can't be loaded yet");
      await sleep(1_000);
      continue;
    }
    for (const { subject_id: person } of page.items) {
      STEPS.fence(person);
      STEPS.delete(person);
    }
    keep();
    if (!page.next) return;
    cursor = `&cursor=${page.next}`;
  }
}

/** The command, if it is one that this participant is asked and knows how to do. */
function asked({ headers, value }) {
  try {
    const text = Object.entries(headers).map(([name, it]) => [name, it.toString()]);
    const { type, data: command } = CloudEvents.toEvent({ headers: Object.fromEntries(text), value });
    return type === COMMAND && command.participants.includes(NAME) && command.step in STEPS ? command : undefined;
  } catch {
    return undefined;
  }
}

await loadErased();
const brokers = (process.env.ASSENT_KAFKA ?? "127.0.0.1:7192").split(",");
const kafka = new Kafka({ clientId: NAME, brokers, logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: PREFIX + NAME });
await consumer.connect();
await consumer.subscribe({ topics: [`${PREFIX}erasure.commands.v1`], fromBeginning: true });
console.log("listening");
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message, heartbeat }) => {
    const command = asked(message);
    for (let pause = 200; command; pause = Math.min(2 * pause, 5_000)) {
      const outcome = await answer(command, carryOut(command));
      if (outcome !== undefined) {
        console.log(command.step, outcome);
        break;
      }
      if (command.step === "sweep") STEPS.delete(command.subject_id);
      // It stays in its group however long this takes.
      await heartbeat();
      await sleep(pause);
    }
    // Only now: what wasn't answered is read again after a crash.
    await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
  },
});
