-- Words that may mean a stop: marketing to whoever wrote them waits until a human has read them.
ALTER TABLE tasks DROP CONSTRAINT tasks_kind_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_kind_check
    CHECK (kind IN ('stop_unattributed', 'identity_in_doubt', 'stop_unclear'));
ALTER TABLE tasks DROP CONSTRAINT tasks_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_check
    CHECK ((kind = 'stop_unattributed') = (subject_id IS NULL));
