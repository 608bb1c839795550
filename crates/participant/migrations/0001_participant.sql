-- The erasure saga's commands to this service. The schema itself is made by the migrator, which
-- keeps its own table in it.
CREATE TABLE participant.commands (
    command_id  uuid        PRIMARY KEY,
    command     jsonb       NOT NULL,
    heard_at    timestamptz NOT NULL,
    evidence    jsonb,
    answered_at timestamptz
);
COMMENT ON COLUMN participant.commands.evidence IS 'what was done: written with it, and answered to every repeat';
COMMENT ON COLUMN participant.commands.answered_at IS 'null: the saga waits for an answer';
CREATE INDEX commands_open ON participant.commands (heard_at) WHERE answered_at IS NULL;
