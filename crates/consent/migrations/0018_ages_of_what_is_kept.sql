-- Reads go on beside these, for they are no change of a table.
CREATE INDEX gate_rows_age ON gate_rows (greatest(heard_at, changed_at));

-- Verdicts end by age too. They come in the order of their time, and a small index costs a permit nothing.
CREATE INDEX permit_batches_at ON permit_batches USING brin (at);
CREATE INDEX permits_at ON permits (at);
