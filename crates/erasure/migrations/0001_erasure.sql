-- Who takes part. Rows are never deleted: what a participant received while it was registered is
-- still to be erased after it has left.
CREATE TABLE participants (
    name          text        PRIMARY KEY,
    key_name      text        NOT NULL,
    keeps_keys    boolean     NOT NULL,
    registered_at timestamptz NOT NULL,
    left_at       timestamptz
);
COMMENT ON COLUMN participants.key_name IS 'the bearer key that may answer for it';

-- Requests as they stand, written in the transaction of their events. They outlive the erasure:
-- a newcomer loads the erased from here, and an id tells nothing about a person.
CREATE TABLE requests (
    request_id   uuid        PRIMARY KEY,
    subject_id   uuid        NOT NULL UNIQUE,
    place        bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    status       text        NOT NULL,
    actor        text        NOT NULL,
    reason       text,
    requested_at timestamptz NOT NULL,
    due          timestamptz NOT NULL,
    completed_at timestamptz,
    look_at      timestamptz,
    tries        integer     NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
COMMENT ON COLUMN requests.look_at IS 'when the driver looks at it again; null: it is over';
COMMENT ON COLUMN requests.tries IS 'how often its open commands were sent again';
CREATE INDEX requests_look_at ON requests (look_at) WHERE look_at IS NOT NULL;

CREATE TABLE certificates (
    request_id uuid PRIMARY KEY REFERENCES requests,
    jws        text NOT NULL
);
