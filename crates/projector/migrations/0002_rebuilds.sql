-- The last rebuild of each projection and how far it has read. Rows in `next` and offsets commit
-- together, so an interrupted rebuild goes on where it was.

CREATE TABLE rebuilds (
    projection         text        NOT NULL PRIMARY KEY,
    generation         integer     NOT NULL,
    state              text        NOT NULL,
    reason             text,
    accept_differences boolean     NOT NULL,
    prepared           boolean     NOT NULL DEFAULT false,
    events             bigint      NOT NULL DEFAULT 0,
    differences        bigint,
    requested_at       timestamptz NOT NULL,
    finished_at        timestamptz
);

CREATE TABLE rebuild_offsets (
    projection  text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    PRIMARY KEY (projection, partition)
);
