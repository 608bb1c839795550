-- Conversations: who answers a person, and what humans note about it. Texts are sealed under her key.
CREATE TABLE conversations (
    id              uuid PRIMARY KEY,
    subject_id      uuid NOT NULL,
    channel         text NOT NULL DEFAULT 'whatsapp',
    state           text NOT NULL CHECK (state IN ('bot', 'waiting', 'human', 'closed')),
    -- The name of the key of the human who answers.
    assignee        text,
    -- Why it is not the bot who answers, or why it is over.
    reason          text,
    opened_at       timestamptz NOT NULL,
    -- Her last message, by the provider's clock.
    heard_at        timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    -- The bot's: in which language, at which step of its flows, how often in a row it didn't understand.
    language        text,
    step            text,
    misses          integer NOT NULL DEFAULT 0,
    -- The message by which the bot said that it is one; none: it hasn't, since it was given the conversation.
    disclosure      uuid,
    -- In which languages it has.
    disclosed_in    text[] NOT NULL DEFAULT '{}',
    -- How often it was handed to the bot after a human had it.
    generation      integer NOT NULL DEFAULT 0,
    CHECK ((state = 'human') = (assignee IS NOT NULL))
);
-- One is open at a time.
CREATE UNIQUE INDEX conversations_open ON conversations (subject_id) WHERE state <> 'closed';
CREATE INDEX conversations_subject ON conversations (subject_id);
CREATE INDEX conversations_state ON conversations (state, opened_at, id);

CREATE TABLE conversation_notes (
    id              uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    subject_id      uuid NOT NULL,
    author          text NOT NULL,
    body            bytea NOT NULL,
    written_at      timestamptz NOT NULL
);
CREATE INDEX conversation_notes_subject ON conversation_notes (subject_id);
CREATE INDEX conversation_notes_conversation ON conversation_notes (conversation_id, id);

-- Messages of hers that the bot has not answered yet.
CREATE TABLE bot_turns (
    message_id      uuid PRIMARY KEY,
    -- The order of her messages: drawn under the lock of her stream.
    position        bigserial NOT NULL,
    conversation_id uuid NOT NULL,
    subject_id      uuid NOT NULL,
    -- That of the conversation when she wrote.
    generation      integer NOT NULL,
    since           timestamptz NOT NULL DEFAULT now(),
    not_before      timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    -- It doesn't ask for a human.
    looked_at       boolean NOT NULL DEFAULT false
);
CREATE INDEX bot_turns_subject ON bot_turns (subject_id);
CREATE INDEX bot_turns_conversation ON bot_turns (conversation_id, position);
CREATE INDEX bot_turns_due ON bot_turns (not_before, position);

ALTER TABLE inbound_messages ADD COLUMN conversation_id uuid;
CREATE INDEX inbound_messages_conversation ON inbound_messages (conversation_id, id);
ALTER TABLE intents ADD COLUMN conversation_id uuid;
-- Who wrote it: `bot`, or `human:` and the name of the key. None: no part of answering her.
ALTER TABLE intents ADD COLUMN author text;
-- The bot lost the conversation while this was being sent: it is not tried again.
ALTER TABLE intents ADD COLUMN taken_back boolean NOT NULL DEFAULT false;
CREATE INDEX intents_conversation ON intents (conversation_id, id) WHERE conversation_id IS NOT NULL;

-- What was written, by its age: it ends with its retention.
CREATE INDEX inbound_messages_texts ON inbound_messages (said_at) WHERE content IS NOT NULL;
CREATE INDEX intents_texts ON intents (requested_at)
    WHERE conversation_id IS NOT NULL AND parameters IS NOT NULL;
CREATE INDEX conversation_notes_age ON conversation_notes (written_at);
