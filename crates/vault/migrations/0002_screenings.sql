-- Who asked about a list: one row for each request, committed before its answer goes out.
CREATE TABLE screenings (
    id           uuid        PRIMARY KEY,
    at           timestamptz NOT NULL,
    screening_id uuid        NOT NULL,
    caller       text        NOT NULL,
    purpose      text        NOT NULL,
    channel      text        NOT NULL,
    rows         bigint      NOT NULL CHECK (rows >= 0)
);
CREATE INDEX screenings_caller ON screenings (caller, at);
CREATE INDEX screenings_screening ON screenings (screening_id);
