-- People who are kept no longer: found once, asked for at the erasure service until it has heard it.
CREATE TABLE retention_due (
    subject_id uuid        PRIMARY KEY,
    found_at   timestamptz NOT NULL,
    -- The request; none: it has not been heard yet.
    request_id uuid
);
