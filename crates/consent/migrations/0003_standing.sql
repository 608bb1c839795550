-- Since when an address is known to be whose: what stood against it before was not about her.
ALTER TABLE gate_links ADD COLUMN linked_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE gate_links ALTER COLUMN linked_at DROP DEFAULT;

-- Addresses and people around whom something changed, until it is in the streams of those whom it
-- concerns. Each row is one or the other.
CREATE TABLE standing_due (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token      bytea,
    subject_id uuid,
    CHECK ((token IS NULL) <> (subject_id IS NULL))
);
