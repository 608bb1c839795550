-- What recipients outside say that they hold on a person, sealed under her key until her archive has it.
CREATE TABLE disclosures (
    inquiry_id  uuid        NOT NULL,
    recipient   text        NOT NULL,
    request_id  uuid        NOT NULL,
    sealed      bytea       NOT NULL,
    PRIMARY KEY (inquiry_id, recipient)
);
CREATE INDEX disclosures_request ON disclosures (request_id);

-- Many people's requests that came as one.
CREATE TABLE bulks (
    bulk_id     uuid        PRIMARY KEY,
    intake      jsonb       NOT NULL,
    opened_at   timestamptz NOT NULL,
    closed_at   timestamptz
);
COMMENT ON COLUMN bulks.intake IS 'what is the same for all of them, and the key of the caller';
COMMENT ON COLUMN bulks.closed_at IS 'since when nobody is added; before, those who are there are only stopped';

CREATE TABLE bulk_items (
    bulk_id     uuid        NOT NULL REFERENCES bulks,
    place       integer     NOT NULL,
    subject_id  uuid,
    addresses   text[],
    country     text,
    stopped_at  timestamptz,
    request_id  uuid,
    look_at     timestamptz NOT NULL,
    tries       integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (bulk_id, place)
);
COMMENT ON COLUMN bulk_items.addresses IS 'tokens of a number that nobody who is known here has: it is stopped';
COMMENT ON COLUMN bulk_items.request_id IS 'none: it is still to be made';
CREATE INDEX bulk_items_due ON bulk_items (look_at) WHERE request_id IS NULL;

-- Whether others come first: erasures that nobody waits for one by one.
ALTER TABLE requests ADD COLUMN yields boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN requests.yields IS 'it came with many others, or because time ran out: single ones go before it';
CREATE INDEX requests_yielding ON requests (yields) WHERE completed_at IS NULL;
