-- The erasure saga's commands to this service, with what was done: a repeat is answered alike.
CREATE TABLE erasure_steps (
    command_id  uuid        PRIMARY KEY,
    request_id  uuid        NOT NULL,
    subject_id  uuid        NOT NULL,
    step        text        NOT NULL,
    barrier     json        NOT NULL,
    received_at timestamptz NOT NULL,
    evidence    json,
    acknowledged boolean    NOT NULL DEFAULT false
);
CREATE INDEX erasure_steps_open ON erasure_steps (received_at) WHERE NOT acknowledged;
