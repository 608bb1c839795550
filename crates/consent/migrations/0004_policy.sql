-- Hashes of the notices on which a consent to the purpose holds; null for purposes from before there
-- were any: then it holds on every one.
ALTER TABLE purposes ADD COLUMN accepted text[];

-- The policy in force; all versions are events of the policy's stream.
CREATE TABLE policy (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    version  bigint  NOT NULL,
    hash     text    NOT NULL,
    document json    NOT NULL,
    event_id uuid    NOT NULL
);
