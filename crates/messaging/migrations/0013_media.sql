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

-- People who came by an advertisement, the last time.
CREATE TABLE free_entries (
    subject_id  uuid PRIMARY KEY,
    entered_at  timestamptz NOT NULL,
    -- The first message that the provider took for her after that: from then on messages cost nothing for a while.
    answered_at timestamptz
);
CREATE INDEX free_entries_age ON free_entries (entered_at);
