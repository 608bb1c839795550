-- By which wrapping keys live keys are wrapped is looked for at every start, and counted while one is changed.
CREATE INDEX keys_kek ON keys (kek_id) WHERE wrapped IS NOT NULL;
