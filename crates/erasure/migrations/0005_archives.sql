-- What answers a request to see, or take along, what is held: sealed under the person's key, until it is collected.
CREATE TABLE archives (
    request_id uuid        PRIMARY KEY,
    subject_id uuid        NOT NULL,
    sealed     bytea,
    look_at    timestamptz NOT NULL,
    tries      integer     NOT NULL DEFAULT 0
);
COMMENT ON COLUMN archives.sealed IS 'null: it is to be made';
COMMENT ON COLUMN archives.look_at IS 'when it is to be made, or destroyed uncollected';
CREATE INDEX archives_look_at ON archives (look_at);
