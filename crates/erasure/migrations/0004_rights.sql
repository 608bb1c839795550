COMMENT ON TABLE requests IS
    'erasures that have begun, as they stand; what was asked for is in subject_requests';

-- What people asked for, as it stands, written in the transaction of its events.
CREATE TABLE subject_requests (
    request_id     uuid        PRIMARY KEY,
    subject_id     uuid        NOT NULL,
    place          bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind           text        NOT NULL,
    status         text        NOT NULL,
    reference      text        NOT NULL UNIQUE,
    secret_sha256  bytea,
    received_at    timestamptz NOT NULL,
    due            timestamptz NOT NULL,
    acknowledge_by timestamptz,
    closed_at      timestamptz
);
COMMENT ON COLUMN subject_requests.subject_id IS
    'the stream: the person, or a random id where she is not known here';
COMMENT ON COLUMN subject_requests.secret_sha256 IS
    'of the secret that opens the tracking; null: the request is older than tracking';
COMMENT ON COLUMN subject_requests.acknowledge_by IS
    'by when she must hear that it has arrived; null: no law asks for it, or it is done';
CREATE INDEX subject_requests_subject ON subject_requests (subject_id);
CREATE INDEX subject_requests_due ON subject_requests (due, place) WHERE closed_at IS NULL;

-- Erasures of before: their streams tell the rest.
INSERT INTO subject_requests
    (request_id, subject_id, kind, status, reference, received_at, due, closed_at)
SELECT request_id, subject_id, 'erasure',
       CASE WHEN completed_at IS NULL THEN 'open' ELSE 'answered' END,
       request_id::text, requested_at, due, completed_at
FROM requests ORDER BY place;

-- What callers were called when they last checked, or held, something. Events name them by their keys.
CREATE TABLE callers (
    key  text PRIMARY KEY,
    name text NOT NULL
);
COMMENT ON COLUMN callers.key IS 'the first 16 hex digits of its SHA-256 in the key file';

-- Holds that were placed, as they stand.
CREATE TABLE holds (
    hold_id     uuid        PRIMARY KEY,
    subject_id  uuid        NOT NULL,
    place       bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    purpose     text,
    reason      text        NOT NULL,
    key         text        NOT NULL,
    placed_at   timestamptz NOT NULL,
    review_on   date        NOT NULL,
    ends_at     timestamptz,
    released_at timestamptz
);
CREATE INDEX holds_review ON holds (review_on, place) WHERE released_at IS NULL;
