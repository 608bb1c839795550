-- What a database that was restored is recognised by.

-- Up to where a service's own topic is known to be reflected in its store. Written from time to time: what lies
-- behind it is compared again when the service starts.
CREATE TABLE eventstore.own_log (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    topic_id    text    NOT NULL,
    next_offset bigint  NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (topic, partition)
);

-- Which database it was when it was last compared: a restored one is another, or on another timeline.
CREATE TABLE eventstore.incarnation (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    name        text        NOT NULL,
    compared_at timestamptz NOT NULL
);
COMMENT ON COLUMN eventstore.incarnation.name IS 'the cluster, its timeline, the database''s oid';
