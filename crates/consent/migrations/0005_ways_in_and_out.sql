-- A yes that is to be confirmed is a line of its own where nothing else was said.
ALTER TABLE consent_lines DROP CONSTRAINT consent_lines_state_check;
ALTER TABLE consent_lines ADD CONSTRAINT consent_lines_state_check
    CHECK (state IN ('requested', 'given', 'refused', 'withdrawn', 'expired'));

ALTER TABLE purposes ADD COLUMN double_opt_in boolean NOT NULL DEFAULT false;

-- Codes that mean something when they come from a person's own number.
CREATE TABLE codes (
    code       text        PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('confirm', 'prove')),
    subject_id uuid        NOT NULL,
    about      uuid        NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    addresses  bytea[]
);
COMMENT ON COLUMN codes.about IS 'the request that is confirmed, or the link of the page';
COMMENT ON COLUMN codes.addresses IS 'of a page: the address that the code came from';
CREATE INDEX codes_subject ON codes (subject_id);
CREATE INDEX codes_expiring ON codes (expires_at);

-- Links to preference pages. A revoked one is good for opting out only.
CREATE TABLE preference_links (
    link_id    uuid        PRIMARY KEY,
    subject_id uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX preference_links_subject ON preference_links (subject_id);
