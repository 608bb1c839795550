-- What people asked for about their data by a message: handed over to the erasure service, however long that takes.
CREATE TABLE asked_requests (
    id         uuid PRIMARY KEY,
    -- Keyed hash of the message that asked.
    source     bytea NOT NULL UNIQUE,
    subject_id uuid NOT NULL,
    -- Her own order.
    position   bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind       text NOT NULL,
    -- Of an erasure: she says that she is sure.
    sure       boolean NOT NULL,
    -- Whether it came from her number: a user id alone shows nothing.
    by_number  boolean NOT NULL,
    -- When she wrote: the term of her request counts from then.
    asked_at   timestamptz NOT NULL,
    not_before timestamptz NOT NULL DEFAULT now(),
    attempts   integer NOT NULL DEFAULT 0,
    settled_at timestamptz,
    -- The request that it opened at the erasure service; null: none yet, or it said again what she had asked for.
    request_id uuid
);
CREATE INDEX asked_requests_subject ON asked_requests (subject_id, position);
CREATE INDEX asked_requests_open ON asked_requests (not_before) WHERE settled_at IS NULL;

-- A request of whom it is in doubt who she is: a human finds out, and takes it in.
ALTER TABLE tasks DROP CONSTRAINT tasks_kind_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_kind_check
    CHECK (kind IN ('stop_unattributed', 'identity_in_doubt', 'stop_unclear', 'outcome_unknown',
                    'request_in_doubt'));

-- Whether the confirmation of a stop says how to be erased as well.
ALTER TABLE intents ADD COLUMN asks_erasure boolean NOT NULL DEFAULT false;
