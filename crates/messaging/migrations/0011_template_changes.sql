-- The provider's own id of a template, by which it is edited.
ALTER TABLE templates ADD COLUMN provider_id text;

-- Calls of the management API in the last hour: it is counted by the hour, for the account.
CREATE TABLE management_accounts (
    business_account_id text PRIMARY KEY,
    -- The provider asked to be left alone.
    resting_until       timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE TABLE management_calls (
    id                  bigserial PRIMARY KEY,
    business_account_id text NOT NULL,
    called_at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX management_calls_recent ON management_calls (business_account_id, called_at);
