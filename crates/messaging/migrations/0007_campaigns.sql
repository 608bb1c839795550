-- Campaigns: the events are the truth, these rows are what claims, workers and readers need of them.
CREATE TABLE campaigns (
    campaign_id     uuid PRIMARY KEY,
    name            text NOT NULL,
    purpose         text NOT NULL,
    channel         text NOT NULL,
    template        text NOT NULL,
    language        text NOT NULL,
    -- The template's values, the same for everybody: nothing of a person.
    template_values jsonb,
    audience        jsonb NOT NULL,
    state           text NOT NULL,
    pause_reason    text,
    drafted_by      text NOT NULL,
    drafted_at      timestamptz NOT NULL,
    approved_by     text,
    -- The template's category at the start.
    category        text,
    -- By the database's clock: news that is older than this has been seen by who let it run.
    running_since   timestamptz,
    -- How far the read model was read.
    audience_cursor text,
    members         bigint NOT NULL DEFAULT 0,
    -- `running`, `done`; none: not tried dry.
    dry_run         text,
    dry_run_after   uuid,
    dry_run_asked   bigint NOT NULL DEFAULT 0,
    -- How many of them may not be written to, by the first reason.
    dry_run_excluded jsonb NOT NULL DEFAULT '{}',
    changed_at      timestamptz NOT NULL
);
CREATE INDEX campaigns_at_work ON campaigns (state)
    WHERE state IN ('gathering', 'running', 'paused', 'cancelled');

CREATE TABLE campaign_members (
    campaign_id uuid NOT NULL REFERENCES campaigns,
    subject_id  uuid NOT NULL,
    state       text NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'excluded', 'started')),
    reasons     text[] NOT NULL DEFAULT '{}',
    -- She said stop within a day of the message.
    stopped_at  timestamptz,
    -- Nobody is in a campaign twice.
    PRIMARY KEY (campaign_id, subject_id)
);
CREATE INDEX campaign_members_waiting ON campaign_members (campaign_id, subject_id)
    WHERE state = 'waiting';
CREATE INDEX campaign_members_subject ON campaign_members (subject_id);
CREATE INDEX campaign_members_stopped ON campaign_members (campaign_id) WHERE stopped_at IS NOT NULL;

CREATE INDEX declarations_stops ON declarations (heard_at) WHERE will = 'stop';

ALTER TABLE intents ADD COLUMN campaign_id uuid REFERENCES campaigns;

-- When its try began, then when it was called, by the database's clock, as long as it may have gone out:
-- what caps and ceilings count.
ALTER TABLE intents ADD COLUMN started_at timestamptz;
-- What may have gone out before counts too, from when it was asked for.
UPDATE intents SET started_at = requested_at WHERE state IN ('accepted', 'uncertain');
CREATE INDEX intents_campaign ON intents (campaign_id, state, started_at) WHERE campaign_id IS NOT NULL;
CREATE INDEX intents_outcomes ON intents (campaign_id, changed_at)
    WHERE campaign_id IS NOT NULL AND state IN ('accepted', 'failed');
-- She had not written within a day: she counts for the provider's tier.
ALTER TABLE intents ADD COLUMN speaks_first boolean NOT NULL DEFAULT false;
CREATE INDEX intents_started ON intents (started_at) INCLUDE (campaign_id, purpose)
    WHERE started_at IS NOT NULL;
CREATE INDEX intents_speaking ON intents (started_at) INCLUDE (subject_id)
    WHERE started_at IS NOT NULL AND speaks_first;
CREATE INDEX intents_capped ON intents (subject_id, purpose, started_at) WHERE started_at IS NOT NULL;

-- What is known of a number's standing.
CREATE TABLE sending_numbers (
    phone_number_id text PRIMARY KEY,
    -- Its first message of a campaign or of marketing: the ramp-up counts its days from there.
    first_at        timestamptz,
    -- When the provider last told that its quality is low; none: it is not.
    flagged_at      timestamptz,
    -- To how many people in a day the business may speak first, as the provider told; -1: unlimited.
    people_per_day  bigint,
    told_at         timestamptz
);

ALTER TABLE templates ADD COLUMN quality_since timestamptz;
