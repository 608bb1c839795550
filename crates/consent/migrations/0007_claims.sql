-- Consents that a list brings evidence of, until somebody has looked at them.
CREATE TABLE claim_batches (
    batch_id     uuid        PRIMARY KEY,
    purpose      text        NOT NULL,
    channel      text        NOT NULL,
    locale       text,
    state        text        NOT NULL DEFAULT 'open'
                 CHECK (state IN ('open', 'waiting', 'approved', 'done', 'refused')),
    submitted_by text        NOT NULL,
    submitted_at timestamptz NOT NULL,
    decided_by   text,
    decided_at   timestamptz,
    reason       text
);
CREATE INDEX claim_batches_approved ON claim_batches (batch_id) WHERE state = 'approved';

CREATE TABLE claims (
    batch_id   uuid        NOT NULL REFERENCES claim_batches,
    subject_id uuid        NOT NULL,
    acted_at   timestamptz NOT NULL,
    evidence   text,
    outcome    text,
    PRIMARY KEY (batch_id, subject_id)
);
COMMENT ON COLUMN claims.evidence IS 'sealed under the person''s key; it goes with the claim''s end';
CREATE INDEX claims_subject ON claims (subject_id);
CREATE INDEX claims_open ON claims (batch_id, subject_id) WHERE outcome IS NULL;
