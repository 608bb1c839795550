-- Whom nothing is written about any more. Never removed: late events and rebuilds meet it.
CREATE TABLE fences (
    subject_id uuid        NOT NULL PRIMARY KEY,
    request_id uuid        NOT NULL,
    fenced_at  timestamptz NOT NULL
);

-- Commands of the saga, until they are answered. A repeat answers again with the same evidence.
CREATE TABLE erasure_commands (
    command_id    uuid        NOT NULL PRIMARY KEY,
    command       jsonb       NOT NULL,
    received_at   timestamptz NOT NULL,
    claimed_until timestamptz,
    answered_at   timestamptz,
    evidence      jsonb
);
CREATE INDEX erasure_commands_open ON erasure_commands (received_at) WHERE answered_at IS NULL;
