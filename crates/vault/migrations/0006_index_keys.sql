-- Which keys its hashes were made under. Hashes of erased people and of lists of opt-outs can't be made again, so a
-- key that was ever used is needed: a vault that lacks one, or has another under its id, doesn't start.
CREATE TABLE index_keys (
    kind        text        NOT NULL CHECK (kind IN ('address', 'fingerprint')),
    key_id      smallint    NOT NULL CHECK (key_id BETWEEN 0 AND 255),
    name        text        NOT NULL,
    known_since timestamptz NOT NULL,
    complete_at timestamptz,
    PRIMARY KEY (kind, key_id)
);
COMMENT ON COLUMN index_keys.name IS 'derived from the key; tells which it is, and nothing about it';
COMMENT ON COLUMN index_keys.complete_at IS 'when everybody was found to be hashed under it, since it was added';
