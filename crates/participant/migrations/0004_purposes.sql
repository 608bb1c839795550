-- Commands about one purpose's data. They are not among the other commands: a replica of the version before does those,
-- and would take one of these for the erasure of the whole person.
CREATE TABLE participant.purpose_commands (
    command_id  uuid        PRIMARY KEY,
    command     jsonb       NOT NULL,
    heard_at    timestamptz NOT NULL,
    times_heard integer     NOT NULL DEFAULT 1,
    evidence    jsonb,
    answered_at timestamptz,
    redone_at   timestamptz
);
COMMENT ON COLUMN participant.purpose_commands.answered_at IS 'null: the saga waits for an answer';
COMMENT ON COLUMN participant.purpose_commands.redone_at IS 'done again before the service answered: the database was older than the answer';
CREATE INDEX purpose_commands_open ON participant.purpose_commands (heard_at) WHERE answered_at IS NULL;
