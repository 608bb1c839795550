-- What refusals of the provider leave behind: it survives a restart and is the same for all replicas.

-- As the provider names it; `MISSING` where it doesn't know the template.
ALTER TABLE templates ADD COLUMN status text NOT NULL DEFAULT 'APPROVED';
ALTER TABLE templates ADD COLUMN status_since timestamptz NOT NULL DEFAULT now();

-- What someone has to lift.
CREATE TABLE halts (
    phone_number_id text NOT NULL,
    reach           text NOT NULL CHECK (reach IN ('everything', 'campaigns', 'billable')),
    -- None: an account update said so.
    provider_code   bigint,
    since           timestamptz NOT NULL,
    lifted_at       timestamptz,
    PRIMARY KEY (phone_number_id, reach)
);

-- What holds for one person's messages only.
CREATE TABLE person_bars (
    subject_id    uuid NOT NULL,
    bar           text NOT NULL CHECK (bar IN ('pair', 'cap', 'experiment', 'identity')),
    provider_code bigint,
    -- How often in a row.
    times         integer NOT NULL DEFAULT 1,
    since         timestamptz NOT NULL,
    -- By the database's clock. None: until she writes, or somebody lifts it.
    until         timestamptz,
    PRIMARY KEY (subject_id, bar)
);

-- A number that was too fast: the share of its rate that is used, which doubles every minute.
ALTER TABLE send_rates ADD COLUMN slowness float8 NOT NULL DEFAULT 1;
ALTER TABLE send_rates ADD COLUMN slowed_at timestamptz;
