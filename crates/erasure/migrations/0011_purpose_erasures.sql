-- Erasures of one purpose's data, as they stand, written in the transaction of their events. They are not in `requests`:
-- whoever is in there is to be forgotten whole, also for a replica of the version before.
CREATE TABLE purpose_erasures (
    request_id   uuid        PRIMARY KEY,
    subject_id   uuid        NOT NULL,
    place        bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    purpose      text        NOT NULL,
    status       text        NOT NULL,
    look_at      timestamptz,
    tries        integer     NOT NULL DEFAULT 0,
    completed_at timestamptz,
    certificate  text
) WITH (fillfactor = 80);
COMMENT ON COLUMN purpose_erasures.look_at IS 'when the driver looks at it again; null: it is over';
COMMENT ON COLUMN purpose_erasures.certificate IS 'a compact JWS; null: it is not complete';
CREATE INDEX purpose_erasures_look_at ON purpose_erasures (look_at) WHERE look_at IS NOT NULL;

ALTER TABLE subject_requests ADD COLUMN purpose text;
COMMENT ON COLUMN subject_requests.purpose IS 'of an erasure: whose data alone are meant; null: all of hers';
