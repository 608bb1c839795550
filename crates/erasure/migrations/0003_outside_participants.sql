-- Participants of other teams: who answers for one that doesn't, and whose answers aren't taken for now. A replica of
-- the version before knows neither column.
ALTER TABLE participants
    ADD COLUMN owner        text,
    ADD COLUMN suspended_at timestamptz;
COMMENT ON COLUMN participants.owner IS 'a code for the team to turn to, no person';
COMMENT ON COLUMN participants.suspended_at IS 'since when its answers are refused; it must still answer';
