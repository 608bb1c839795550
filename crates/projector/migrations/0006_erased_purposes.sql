-- Purposes whose data were erased, up to a moment. A message of before it is not written, also one that this database had
-- not heard of when it was erased: parked then, or sent after the backup that it was restored from. Its id goes into
-- erased_messages. They go with their person.
CREATE TABLE erased_purposes (
    subject_id uuid        NOT NULL,
    purpose    text        NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (subject_id, purpose)
);
