-- What each verdict needs of a definition, beside its texts: reading a word out of JSON means reading all of it.
ALTER TABLE purposes
    ADD COLUMN dpv   text GENERATED ALWAYS AS (definition ->> 'dpv') STORED,
    ADD COLUMN quiet text GENERATED ALWAYS AS (definition ->> 'quiet') STORED;
