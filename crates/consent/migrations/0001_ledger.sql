-- The newest version of each purpose; all versions are events of the purpose's stream.
CREATE TABLE purposes (
    purpose        text     PRIMARY KEY,
    channels       text[]   NOT NULL,
    notice_version integer  NOT NULL,
    notice_hash    text     NOT NULL,
    validity_days  integer,
    definition     json     NOT NULL,
    event_id       uuid     NOT NULL
);

-- The last word of a person per scope: a fold of her stream, kept in the transaction that appends.
CREATE TABLE consent_lines (
    subject_id  uuid        NOT NULL,
    purpose     text        NOT NULL,
    channel     text        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('given', 'refused', 'withdrawn', 'expired')),
    event_id    uuid        NOT NULL,
    version     bigint      NOT NULL,
    since       timestamptz NOT NULL,
    notice_hash text,
    valid_until timestamptz,
    PRIMARY KEY (subject_id, purpose, channel)
) WITH (fillfactor = 80);
COMMENT ON COLUMN consent_lines.purpose IS '* is every purpose; channel likewise';
CREATE INDEX consent_lines_expiring ON consent_lines (valid_until)
    WHERE state = 'given' AND valid_until IS NOT NULL;
