-- Files that were uploaded to the provider from here, without the files: they pass through and are kept by
-- the provider only, for 30 days.
CREATE TABLE media (
    -- The provider's own: random.
    provider_id text PRIMARY KEY,
    -- Which kind of message may carry it.
    kind        text NOT NULL,
    mime_type   text NOT NULL,
    bytes       bigint NOT NULL,
    -- Whom it is about, where that was said: it goes to nobody else, and goes when she is erased.
    subject_id  uuid,
    -- The name of the key.
    uploaded_by text NOT NULL,
    uploaded_at timestamptz NOT NULL,
    -- From then on it is gone at the provider.
    gone_at     timestamptz NOT NULL
);
CREATE INDEX media_subject ON media (subject_id) WHERE subject_id IS NOT NULL;
CREATE INDEX media_gone ON media (gone_at);
