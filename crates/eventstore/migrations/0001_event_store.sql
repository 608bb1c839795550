-- Streams, their events, what is still to be published, and the first answers of commands.
-- The schema itself is made by the migrator, which keeps its own table in it.

-- `data` is json and not jsonb: the bytes that were written are the bytes that are read.
CREATE TABLE eventstore.events (
    stream      uuid        NOT NULL,
    version     bigint      NOT NULL CHECK (version > 0),
    position    bigint      GENERATED ALWAYS AS IDENTITY,
    id          uuid        NOT NULL,
    event_type  text        NOT NULL,
    data        json        NOT NULL,
    recorded_at timestamptz NOT NULL,
    traceparent text,
    PRIMARY KEY (stream, version)
);
CREATE UNIQUE INDEX events_position ON eventstore.events (position);

-- A stream has no row of its own: its last event says its version, so that event is never deleted.
-- Appends lock a stream by an advisory lock, which costs no write.
CREATE VIEW eventstore.streams AS
    SELECT stream AS id, max(version) AS version FROM eventstore.events GROUP BY stream;

-- Only what Kafka has not acknowledged yet. Ids are drawn under the stream's lock, so they rise per key.
CREATE TABLE eventstore.outbox (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic          text        NOT NULL,
    key            uuid        NOT NULL,
    sequence       bigint,
    event_sequence bigint,
    event_id       uuid        NOT NULL,
    event_type     text        NOT NULL,
    recorded_at    timestamptz NOT NULL,
    traceparent    text,
    payload        bytea
) WITH (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN eventstore.outbox.topic IS 'without the deployment''s prefix';
COMMENT ON COLUMN eventstore.outbox.sequence IS 'null on command topics';
COMMENT ON COLUMN eventstore.outbox.event_sequence IS 'compacted state topics only';
COMMENT ON COLUMN eventstore.outbox.payload IS 'null is a tombstone of a compacted topic';

-- Hashes under a secret, never the key or the body: clients put phone numbers into both.
CREATE TABLE eventstore.idempotency_keys (
    key_hash    bytea       PRIMARY KEY CHECK (octet_length(key_hash) = 32),
    body_hash   bytea       NOT NULL CHECK (octet_length(body_hash) = 32),
    stream      uuid        NOT NULL,
    version     bigint      NOT NULL,
    event_ids   uuid[]      NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_recorded_at ON eventstore.idempotency_keys USING brin (recorded_at) WITH (autosummarize = on);
