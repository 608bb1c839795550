-- What the platform calls a person beside her number. Somebody may be known by that alone.
ALTER TABLE people ALTER COLUMN phone DROP NOT NULL;
ALTER TABLE people ADD COLUMN user_id bytea;
ALTER TABLE people ADD COLUMN parent_user_id bytea;
COMMENT ON COLUMN people.user_id IS 'business-scoped user id, sealed';
ALTER TABLE people ADD CONSTRAINT people_reachable CHECK (phone IS NOT NULL OR user_id IS NOT NULL);

-- People who are one by the platform's word, both ways. They are never merged.
CREATE TABLE subject_links (
    subject_id uuid        NOT NULL,
    other_id   uuid        NOT NULL,
    linked_at  timestamptz NOT NULL,
    PRIMARY KEY (subject_id, other_id)
);
CREATE INDEX subject_links_other ON subject_links (other_id);
