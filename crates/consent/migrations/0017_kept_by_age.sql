-- When something was last said against an address, whether or not it stood already: what is kept of an address that
-- nobody here has ends so long after that. Null, or older than the change: a replica from before wrote it.
-- Alone in its transaction: permits read this table, and wait until it ends.
ALTER TABLE gate_rows ADD COLUMN heard_at timestamptz;
