-- People. Whatever identifies a person is ciphertext under her own key, which lives elsewhere.
CREATE TABLE people (
    subject_id    uuid        PRIMARY KEY,
    key_version   integer     NOT NULL,
    phone         bytea       NOT NULL,
    name          bytea,
    email         bytea,
    tokens        bytea       NOT NULL CHECK (octet_length(tokens) % 33 = 0),
    region        text,
    origin        text        NOT NULL,
    registered_at timestamptz NOT NULL
);
COMMENT ON COLUMN people.tokens IS 'the tokens of her addresses, 33 bytes each: what is in the index';

-- The blind index: a keyed hash of every spelling of a number. One number, one person.
CREATE TABLE addresses (
    token      bytea PRIMARY KEY CHECK (octet_length(token) = 33),
    subject_id uuid  NOT NULL
);

-- Addresses that may not come in (again), under a key of their own. They outlive the person.
CREATE TABLE suppressions (
    fingerprint bytea       PRIMARY KEY CHECK (octet_length(fingerprint) = 33),
    reason      text        NOT NULL CHECK (reason IN ('suppressed', 'erased')),
    recorded_at timestamptz NOT NULL
);

-- Who is being or was erased. Checked in the transaction of every write about a person.
CREATE TABLE tombstones (
    subject_id uuid        PRIMARY KEY,
    request_id uuid        NOT NULL,
    fenced_at  timestamptz NOT NULL
);

-- Who saw what of whom, and why: written and committed before anything is decrypted.
CREATE TABLE access_records (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL,
    caller     text        NOT NULL,
    reason     text        NOT NULL,
    field      text        NOT NULL,
    subject_id uuid        NOT NULL
);
CREATE INDEX access_records_subject ON access_records (subject_id, id);
