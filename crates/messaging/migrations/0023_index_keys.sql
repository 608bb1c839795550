-- Which keys its hashes were made under. What is on record of messages, and stops that wait, are found by them: messaging
-- with one missing, or another under its id, doesn't start.
CREATE TABLE index_keys (
    kind        text        NOT NULL CHECK (kind IN ('address', 'fingerprint')),
    key_id      smallint    NOT NULL CHECK (key_id BETWEEN 0 AND 255),
    name        text        NOT NULL,
    known_since timestamptz NOT NULL,
    PRIMARY KEY (kind, key_id)
);
COMMENT ON COLUMN index_keys.name IS 'derived from the key; tells which it is, and nothing about it';
