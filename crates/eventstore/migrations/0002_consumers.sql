-- What a consumer of Kafka topics remembers, in the database of the rows that it writes.

-- One row per partition. `next_offset` moves by compare-and-set in the transaction of the rows:
-- a consumer that has lost the partition cannot commit. `starts` counts the attempts at `next_offset`.
CREATE TABLE eventstore.consumer_offsets (
    consumer    text    NOT NULL,
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    topic_id    text    NOT NULL,
    next_offset bigint  NOT NULL CHECK (next_offset >= 0),
    starts      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

-- The last sequence applied per key, for consumers that don't keep it in rows of their own.
CREATE TABLE eventstore.consumer_keys (
    consumer text   NOT NULL,
    topic    text   NOT NULL,
    key      uuid   NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (consumer, topic, key)
) WITH (fillfactor = 80);

-- Coordinates of messages that wait for a decision, never their content. The lowest offset of a
-- key is the cause, the later ones wait behind it.
CREATE TABLE eventstore.parked (
    consumer       text        NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    message_offset bigint      NOT NULL,
    key            uuid        NOT NULL,
    sequence       bigint,
    event_type     text        NOT NULL,
    reason         text        NOT NULL,
    parked_at      timestamptz NOT NULL,
    PRIMARY KEY (consumer, topic, partition, message_offset)
);
CREATE INDEX parked_key ON eventstore.parked (consumer, topic, key, message_offset);

-- Messages that somebody decided to pass over. A rebuild passes over them too.
CREATE TABLE eventstore.discards (
    consumer       text        NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    message_offset bigint      NOT NULL,
    key            uuid        NOT NULL,
    sequence       bigint,
    event_type     text        NOT NULL,
    reason         text        NOT NULL,
    discarded_by   text        NOT NULL,
    discarded_at   timestamptz NOT NULL,
    PRIMARY KEY (consumer, topic, partition, message_offset)
);

-- Ids of messages whose side effects were begun, for topics without a sequence.
CREATE TABLE eventstore.inbox (
    consumer    text        NOT NULL,
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (consumer, message_id)
);
