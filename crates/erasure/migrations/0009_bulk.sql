-- Many people's erasures asked for at once. Nothing begins before all of them are here and it is submitted; then a few
-- at a time become requests like any other.
CREATE TABLE bulks (
    bulk_id      uuid        PRIMARY KEY,
    reason       text        NOT NULL,
    key          text        NOT NULL,
    place        text,
    received_at  timestamptz NOT NULL,
    people       bigint      NOT NULL,
    opened_at    timestamptz NOT NULL,
    submitted_at timestamptz
);
COMMENT ON COLUMN bulks.reason IS 'a code for what showed that each of them asks herself';
COMMENT ON COLUMN bulks.key IS 'the key of the caller that says so';

CREATE TABLE bulk_people (
    bulk_id        uuid    NOT NULL REFERENCES bulks ON DELETE CASCADE,
    line           bigint  NOT NULL,
    subject_id     uuid    NOT NULL,
    number_country text,
    request_id     uuid,
    done           boolean NOT NULL DEFAULT false,
    problem        text,
    PRIMARY KEY (bulk_id, line)
);
COMMENT ON COLUMN bulk_people.problem IS 'a code: why no request was made of it';
CREATE INDEX bulk_people_waiting ON bulk_people (bulk_id, line) WHERE request_id IS NULL AND problem IS NULL;
CREATE INDEX bulk_people_under_way ON bulk_people (request_id) WHERE request_id IS NOT NULL AND NOT done;
