-- The gate. A token is a keyed hash of an address (33 bytes, with its key's id); the key is not here.

-- What stands against an address, whoever has it. A stop from an unknown number has its row too.
CREATE TABLE gate_rows (
    token         bytea       PRIMARY KEY CHECK (octet_length(token) = 33),
    stopped_by    uuid,
    suppressed_by uuid,
    erased_by     uuid,
    changed_at    timestamptz NOT NULL
);
COMMENT ON COLUMN gate_rows.stopped_by IS 'the stop that took effect; null when none holds';
COMMENT ON COLUMN gate_rows.erased_by IS 'the erasure request';

-- Which address is whose. Made from the vault's events only.
CREATE TABLE gate_links (
    subject_id uuid  NOT NULL,
    token      bytea NOT NULL CHECK (octet_length(token) = 33),
    PRIMARY KEY (subject_id, token)
);
CREATE UNIQUE INDEX gate_links_token ON gate_links (token, subject_id);

-- Every stop once, so that repeating one changes nothing, also after it was lifted.
CREATE TABLE stops (
    stop_id      uuid        PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('stopped', 'suppressed', 'erased')),
    heard_at     timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    settled      boolean     NOT NULL DEFAULT false,
    confirmed_by uuid
);
COMMENT ON COLUMN stops.settled IS 'one lease has passed since the commit: the confirmation may go out';
COMMENT ON COLUMN stops.confirmed_by IS 'the permit of the one confirmation';

-- Who is being or was erased. A tombstone: it is never deleted.
CREATE TABLE fences (
    subject_id uuid        PRIMARY KEY,
    request_id uuid        NOT NULL,
    fenced_at  timestamptz NOT NULL
);

-- Every verdict that was given to a dispatcher. One index serves both who looks for a permit of a
-- person and her erasure.
CREATE TABLE permits (
    subject_id  uuid        NOT NULL,
    permit_id   uuid        NOT NULL,
    message_id  uuid        NOT NULL,
    purpose     text        NOT NULL,
    channel     text        NOT NULL,
    template    text        NOT NULL,
    allowed     boolean     NOT NULL,
    reasons     text[]      NOT NULL,
    evidence    uuid[]      NOT NULL,
    notice_hash text,
    rules       text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (subject_id, permit_id)
);
