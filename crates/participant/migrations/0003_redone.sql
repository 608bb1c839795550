-- What was done again because this database was restored from before it, and up to which page of the saga's list
-- everything is known to be done.
ALTER TABLE participant.commands ADD COLUMN redone_at timestamptz;
COMMENT ON COLUMN participant.commands.redone_at IS 'done again before the service answered: the database was older than the answer';
CREATE INDEX commands_redone ON participant.commands (redone_at) WHERE redone_at IS NOT NULL;
CREATE TABLE participant.erased_until (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor   text    NOT NULL
);

-- Since when the log is another one: Kafka was lost. What older commands name as their barrier lies in the old one.
CREATE TABLE participant.log_begins (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    at       timestamptz NOT NULL
);
