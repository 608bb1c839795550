-- A message of which nobody knows whether it went out, and no webhook told within the bound: somebody is to find out.
-- The task goes with its message, so it is hers without naming her.
ALTER TABLE tasks ADD COLUMN message_id uuid UNIQUE REFERENCES intents (id) ON DELETE CASCADE;
-- What whoever closed it found out, and how, a code.
ALTER TABLE tasks ADD COLUMN outcome text CHECK (outcome IN ('sent', 'not_sent', 'unknown'));
ALTER TABLE tasks ADD COLUMN closed_reason text;
ALTER TABLE tasks DROP CONSTRAINT tasks_kind_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_kind_check
    CHECK (kind IN ('stop_unattributed', 'identity_in_doubt', 'stop_unclear', 'outcome_unknown'));
ALTER TABLE tasks DROP CONSTRAINT tasks_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_check
    CHECK ((kind IN ('stop_unattributed', 'outcome_unknown')) = (subject_id IS NULL));
ALTER TABLE tasks ADD CONSTRAINT tasks_message_check
    CHECK ((kind = 'outcome_unknown') = (message_id IS NOT NULL));
-- They are few. By a column that no status changes: such a status goes on touching no indexed one.
CREATE INDEX intents_uncertain ON intents (id) WHERE state = 'uncertain';
