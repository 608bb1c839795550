-- The read models. `live` is what queries see; a rebuild fills tables of the same names in `next`
-- and then takes their place in one transaction. Every key of a topic has a row that carries the
-- last sequence applied, whether or not there is something to show.

CREATE SCHEMA live;
CREATE SCHEMA next;

-- From vault events. A row without `registered_at` is a key that is no person (a suppression).
CREATE TABLE live.contacts (
    subject_id    uuid        NOT NULL PRIMARY KEY,
    sequence      bigint      NOT NULL,
    registered_at timestamptz,
    region        text,
    origin        text,
    fields        jsonb       NOT NULL,
    addresses     integer     NOT NULL,
    updated_at    timestamptz NOT NULL
);

-- From consent events: one row per person, one line per purpose and channel in `consents`.
CREATE TABLE live.consents (
    subject_id uuid        NOT NULL PRIMARY KEY,
    sequence   bigint      NOT NULL,
    consents   jsonb       NOT NULL,
    updated_at timestamptz NOT NULL
);

-- From messaging events: the sequences per person, and a row per message.
CREATE TABLE live.message_subjects (
    subject_id uuid   NOT NULL PRIMARY KEY,
    sequence   bigint NOT NULL
);

CREATE TABLE live.messages (
    message_id       uuid        NOT NULL PRIMARY KEY,
    subject_id       uuid        NOT NULL,
    direction        text        NOT NULL,
    status           text        NOT NULL,
    purpose          text,
    channel          text,
    template         text,
    kind             text,
    reasons          jsonb       NOT NULL,
    permit_id        uuid,
    provider_code    bigint,
    lease_overrun_ms bigint,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);
CREATE INDEX ON live.messages (subject_id, message_id);

-- Which build of a projection is live, counted from 1.
CREATE TABLE generations (
    projection text        NOT NULL PRIMARY KEY,
    generation integer     NOT NULL,
    since      timestamptz NOT NULL
);
INSERT INTO generations VALUES
    ('contacts', 1, now()), ('consents', 1, now()), ('messages', 1, now());
