-- Fingerprints end by age.
CREATE INDEX suppressions_recorded_at ON suppressions (recorded_at);
