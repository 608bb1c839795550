-- The messaging service's own rows. No column holds plaintext personal data: parameters, contents
-- and provider ids are ciphertext under the person's key (or, briefly, under an hourly key), addresses
-- and message ids are keyed hashes.

CREATE TABLE templates (
    name       text NOT NULL,
    language   text NOT NULL,
    category   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, language)
);
INSERT INTO templates (name, language, category) VALUES ('hello', 'en', 'MARKETING');

CREATE TABLE intents (
    id             uuid PRIMARY KEY,
    subject_id     uuid NOT NULL,
    purpose        text NOT NULL,
    channel        text NOT NULL,
    -- No template: the text of a stop confirmation.
    template       text,
    language       text,
    parameters     bytea,
    state          text NOT NULL,
    reasons        text[] NOT NULL DEFAULT '{}',
    provider_code  bigint,
    status         text,
    permit_id      uuid,
    provider_hash  bytea,
    provider_id    bytea,
    requested_at   timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    -- Scheduling is by the database's clock: it is one clock for all dispatchers.
    not_before     timestamptz NOT NULL DEFAULT now(),
    put_off_since  timestamptz,
    attempts       integer NOT NULL DEFAULT 0,
    claim_id       uuid,
    claim_until    timestamptz,
    traceparent    text,
    CHECK ((state IN ('claimed', 'calling')) = (claim_id IS NOT NULL))
);
CREATE INDEX intents_queue ON intents (not_before, id) WHERE state = 'queued';
CREATE INDEX intents_claims ON intents (claim_until) WHERE state IN ('claimed', 'calling');
CREATE INDEX intents_subject ON intents (subject_id);
CREATE INDEX intents_provider ON intents (provider_hash) WHERE provider_hash IS NOT NULL;

-- When the next message of a number may go out (generic cell rate, shared by all dispatchers).
CREATE TABLE send_rates (
    phone_number_id text PRIMARY KEY,
    next_at         timestamptz NOT NULL
);

-- Raw webhook bodies that are not processed yet, sealed under an hourly key. Processed ones are gone.
CREATE TABLE webhook_bodies (
    id          uuid PRIMARY KEY,
    hour_key    uuid NOT NULL,
    sealed      bytea NOT NULL,
    received_at timestamptz NOT NULL,
    not_before  timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    -- Why it can't be processed; it then waits for its key's end.
    parked      text
);
CREATE INDEX webhook_bodies_queue ON webhook_bodies (not_before) WHERE parked IS NULL;

-- What people declared (stop, start), in the order in which it was heard. An unsettled stop blocks
-- sending here; a settled one is held by the consent service's gate.
CREATE TABLE declarations (
    id         uuid PRIMARY KEY,
    position   bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    will       text NOT NULL CHECK (will IN ('stop', 'start')),
    form       text NOT NULL,
    -- Keyed hash of the message that said it: a redelivered webhook declares nothing anew.
    source     bytea UNIQUE,
    tokens     bytea[] NOT NULL,
    -- Of a start: the phone number, sealed under an hourly key.
    phone      bytea,
    hour_key   uuid,
    said_at    timestamptz NOT NULL,
    heard_at   timestamptz NOT NULL,
    not_before timestamptz NOT NULL DEFAULT now(),
    attempts   integer NOT NULL DEFAULT 0,
    -- Of a start: the grant may have been made, its answer didn't come.
    in_doubt   boolean NOT NULL DEFAULT false,
    settled_at timestamptz,
    subjects   uuid[] NOT NULL DEFAULT '{}'
);
CREATE INDEX declarations_tokens ON declarations USING gin (tokens);
CREATE INDEX declarations_pending ON declarations (position) WHERE settled_at IS NULL;

-- Keyed hashes of inbound messages that were processed, for as long as the provider redelivers.
CREATE TABLE seen_messages (
    hash    bytea PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

CREATE TABLE inbound_messages (
    id          uuid PRIMARY KEY,
    subject_id  uuid NOT NULL,
    kind        text NOT NULL,
    content     bytea,
    received_at timestamptz NOT NULL
);
CREATE INDEX inbound_messages_subject ON inbound_messages (subject_id);

-- People about whom nothing may be written any more. Checked under the lock of their stream.
CREATE TABLE fences (
    subject_id uuid PRIMARY KEY,
    request_id uuid NOT NULL,
    fenced_at  timestamptz NOT NULL
);
