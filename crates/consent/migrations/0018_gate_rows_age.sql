-- Reads go on beside it. Each index has a transaction of its own: a table is not written to until its index is there.
CREATE INDEX gate_rows_age ON gate_rows (greatest(heard_at, changed_at));
