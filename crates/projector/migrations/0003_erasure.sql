-- Whom nothing is written about any more. Never removed: late events and rebuilds meet it.
CREATE TABLE fences (
    subject_id uuid        NOT NULL PRIMARY KEY,
    request_id uuid        NOT NULL,
    fenced_at  timestamptz NOT NULL
);
