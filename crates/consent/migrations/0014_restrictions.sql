-- Whose data are kept and not used (GDPR Article 18), by the oldest restriction that stands: a fold of her stream.
CREATE TABLE restrictions (
    subject_id uuid        PRIMARY KEY,
    event_id   uuid        NOT NULL,
    since      timestamptz NOT NULL
);
