-- Every verdict that was given to a dispatcher, a row for each request: a row and a place in a B-tree for each ask cost
-- three times as much. The arrays are parallel; what asks of a batch have in common is said once.
CREATE TABLE permit_batches (
    batch_id    uuid        PRIMARY KEY,
    at          timestamptz NOT NULL,
    rules       text        NOT NULL,
    outcomes    jsonb       NOT NULL,
    subjects    uuid[]      NOT NULL,
    permit_ids  uuid[]      NOT NULL,
    message_ids uuid[]      NOT NULL,
    outcome_of  smallint[]  NOT NULL,
    evidence    text[]      NOT NULL,
    CHECK (cardinality(permit_ids) = cardinality(subjects) AND cardinality(message_ids) = cardinality(subjects)
           AND cardinality(outcome_of) = cardinality(subjects) AND cardinality(evidence) = cardinality(subjects))
);
COMMENT ON COLUMN permit_batches.outcomes IS 'purpose, channel, template, allowed, reasons, notice_hash: each combination once';
COMMENT ON COLUMN permit_batches.outcome_of IS 'which of the outcomes, from 0';
COMMENT ON COLUMN permit_batches.evidence IS 'ids of events, separated by spaces';

-- Random ids don't become smaller by compression.
ALTER TABLE permit_batches
    ALTER subjects SET STORAGE EXTERNAL, ALTER permit_ids SET STORAGE EXTERNAL, ALTER message_ids SET STORAGE EXTERNAL,
    ALTER outcome_of SET STORAGE EXTERNAL, ALTER evidence SET STORAGE EXTERNAL;

-- Serves both who looks for a permit of a person and her erasure. The list of what isn't sorted in yet is short: whoever
-- fills it sorts it in, while a dispatcher waits.
CREATE INDEX permit_batches_subjects ON permit_batches USING gin (subjects) WITH (gin_pending_list_limit = 512);

COMMENT ON TABLE permits IS 'what replicas from before permit_batches recorded; nothing writes it any more';

-- Replicas of before write their permit, which is no message: it is spent for every one.
COMMENT ON COLUMN stops.confirmed_by IS 'the message that is the one confirmation';
