-- Access records end by age.
CREATE INDEX access_records_at ON access_records (at);
