-- Participants that are called instead of reading Kafka. Secrets follow from the ids here and a key that no database
-- holds; two stand while they are being rotated.
ALTER TABLE participants
    ADD COLUMN webhook_url           text,
    ADD COLUMN webhook_secret        uuid,
    ADD COLUMN webhook_secret_before uuid;

-- Calls that were not taken yet, written in the transaction of what they tell. One that was taken is gone; whoever
-- doesn't answer is told again, by a new row.
CREATE TABLE webhooks (
    participant text        NOT NULL REFERENCES participants,
    message_id  uuid        NOT NULL,
    event_id    uuid        NOT NULL,
    subject_id  uuid        NOT NULL,
    place       bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    body        text        NOT NULL,
    look_at     timestamptz NOT NULL,
    tries       integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (participant, message_id)
);
COMMENT ON COLUMN webhooks.message_id IS 'the command or the inquiry';
COMMENT ON COLUMN webhooks.event_id IS 'the same each time this row is sent';
COMMENT ON COLUMN webhooks.look_at IS 'when it is sent; in the future while it is being sent, or after a failure';
CREATE INDEX webhooks_order ON webhooks (participant, subject_id, place);
CREATE INDEX webhooks_look_at ON webhooks (participant, look_at);
