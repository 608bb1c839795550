-- A command that is heard again while the answer to it is on its way must be answered again.
ALTER TABLE participant.commands ADD COLUMN times_heard integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN participant.commands.times_heard IS 'an answer closes the command only if it was not heard again since its work was begun';
