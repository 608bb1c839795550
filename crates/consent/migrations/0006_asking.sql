ALTER TABLE purposes ADD COLUMN lapses_after_days integer;

-- Messages that may ask a person for her consent. Each is one message, made by whoever sends it.
CREATE TABLE asks (
    request_id uuid        PRIMARY KEY,
    subject_id uuid        NOT NULL,
    purpose    text        NOT NULL,
    channel    text        NOT NULL,
    asked_at   timestamptz NOT NULL,
    renews     boolean     NOT NULL
);
CREATE INDEX asks_subject ON asks (subject_id, purpose, channel, asked_at);

-- When each person last did something of her own towards us.
CREATE TABLE contacts (
    subject_id   uuid        PRIMARY KEY,
    contacted_at timestamptz NOT NULL
);
