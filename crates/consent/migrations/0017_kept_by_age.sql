-- When something was last said against an address, whether or not it stood already: what is kept of an address that
-- nobody here has ends so long after that. Null, or older than the change: a replica from before wrote it.
ALTER TABLE gate_rows ADD COLUMN heard_at timestamptz;
CREATE INDEX gate_rows_age ON gate_rows (greatest(heard_at, changed_at));

-- Verdicts end by age too. They come in the order of their time, and a small index costs a permit nothing.
CREATE INDEX permit_batches_at ON permit_batches USING brin (at);
CREATE INDEX permits_at ON permits (at);
