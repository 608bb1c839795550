-- Messages of a purpose whose data were erased. Never written again: late events and rebuilds meet them. They go with
-- their person, whose fence does the same for all of hers.
CREATE TABLE erased_messages (
    message_id uuid PRIMARY KEY,
    subject_id uuid NOT NULL
);
CREATE INDEX erased_messages_subject ON erased_messages (subject_id);
