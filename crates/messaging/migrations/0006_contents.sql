-- What a message is: a template, or free-form content within a day of a message of hers.
ALTER TABLE intents ADD COLUMN kind text NOT NULL DEFAULT 'template';
UPDATE intents SET kind = 'text' WHERE template IS NULL;

-- By the provider's clock: the window counts from then.
ALTER TABLE inbound_messages ADD COLUMN said_at timestamptz;
UPDATE inbound_messages SET said_at = received_at;
-- A replica of the version before doesn't tell.
ALTER TABLE inbound_messages ALTER COLUMN said_at SET DEFAULT now(), ALTER COLUMN said_at SET NOT NULL;
DROP INDEX inbound_messages_subject;
CREATE INDEX inbound_messages_subject ON inbound_messages (subject_id, said_at);
