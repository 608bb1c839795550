-- What the platform said of people's names, once each. It is sealed until the vault has heard it; then the
-- keyed hash stays, so that it isn't told again.
CREATE TABLE told_identities (
    hash        bytea PRIMARY KEY,
    id          uuid NOT NULL,
    -- Keyed hash of the user id.
    user_token  bytea,
    -- Whose, by the vault's answer.
    subjects    uuid[] NOT NULL DEFAULT '{}',
    -- They are in doubt: it is not known whose it is.
    doubted     boolean NOT NULL DEFAULT false,
    sealed      bytea,
    hour_key    uuid,
    -- When it came in: a body's time, or before the call was made that it answers.
    told_at     timestamptz NOT NULL,
    not_before  timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    CHECK ((sealed IS NULL) = (hour_key IS NULL))
);
CREATE INDEX told_identities_pending ON told_identities (not_before) WHERE sealed IS NOT NULL;
CREATE INDEX told_identities_subjects ON told_identities USING gin (subjects);
CREATE INDEX told_identities_user ON told_identities (user_token);

-- By what it is told that a number is still hers.
CREATE TABLE identities (
    subject_id    uuid PRIMARY KEY,
    -- Her last message, by the provider's clock.
    heard_at      timestamptz,
    -- Keyed hash of the provider's own hash of her identity.
    identity_hash bytea,
    -- When the provider said that she has another number or user id.
    moved_at      timestamptz,
    -- When somebody verified that her number is hers: what was said of her names before is not told any more.
    verified_at   timestamptz
);
INSERT INTO identities (subject_id, heard_at)
SELECT subject_id, max(said_at) FROM inbound_messages GROUP BY subject_id;

ALTER TABLE person_bars DROP CONSTRAINT person_bars_bar_check;
ALTER TABLE person_bars ADD CONSTRAINT person_bars_bar_check
    CHECK (bar IN ('pair', 'cap', 'experiment', 'identity', 'silence'));

-- Purposes to which whoever writes from there now has agreed since the silence.
ALTER TABLE person_bars ADD COLUMN lifted_for text[] NOT NULL DEFAULT '{}';

-- The user ids of an opt-in, sealed like its number.
ALTER TABLE declarations ADD COLUMN account bytea;
-- Of an opt-in that counted: to what.
ALTER TABLE declarations ADD COLUMN purpose text;
-- `stop_of`: a stop of these people, whatever address it came from. Replicas from before don't take it.
ALTER TABLE declarations DROP CONSTRAINT declarations_will_check;
ALTER TABLE declarations ADD CONSTRAINT declarations_will_check
    CHECK (will IN ('stop', 'stop_of', 'start', 'code'));
CREATE INDEX declarations_subjects ON declarations USING gin (subjects) WHERE settled_at IS NULL;

-- What a human is to look at.
CREATE TABLE tasks (
    id             uuid PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('stop_unattributed', 'identity_in_doubt')),
    -- Of a doubt: whose, and why.
    subject_id     uuid,
    reason         text NOT NULL,
    -- Of a stop: the declaration, where something of an address is known.
    declaration_id uuid,
    opened_at      timestamptz NOT NULL,
    closed_at      timestamptz,
    -- The name of the key of who closed it; none: it turned out by itself.
    closed_by      text,
    CHECK ((kind = 'identity_in_doubt') = (subject_id IS NOT NULL))
);
CREATE UNIQUE INDEX tasks_doubts ON tasks (subject_id, reason) WHERE closed_at IS NULL AND subject_id IS NOT NULL;
CREATE INDEX tasks_open ON tasks (id) WHERE closed_at IS NULL;
CREATE INDEX tasks_subject ON tasks (subject_id);
CREATE UNIQUE INDEX tasks_declaration ON tasks (declaration_id);
