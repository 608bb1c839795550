ALTER TABLE consent_lines ADD COLUMN by_guardian boolean NOT NULL DEFAULT false;

-- Whether people are old enough, as far as anybody knows. How old they are is nowhere.
CREATE TABLE ages (
    subject_id      uuid    PRIMARY KEY,
    event_id        uuid    NOT NULL,
    verified        boolean NOT NULL,
    of_age          boolean NOT NULL,
    may_be_targeted boolean NOT NULL
);
