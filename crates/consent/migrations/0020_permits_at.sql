-- Those that replicas from before batches recorded.
CREATE INDEX permits_at ON permits (at);
