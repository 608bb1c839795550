-- What the provider tells of templates, by webhook and by its list.
ALTER TABLE templates ADD COLUMN status_reason text;
ALTER TABLE templates ADD COLUMN category_since timestamptz NOT NULL DEFAULT '-infinity';
-- Announced, a day ahead.
ALTER TABLE templates ADD COLUMN next_category text;
ALTER TABLE templates ADD COLUMN next_category_at timestamptz;
ALTER TABLE templates ADD COLUMN quality text;
-- The provider's own `components`, and whether its parameters have names. None: its shape is not known,
-- and its parameters are not checked.
ALTER TABLE templates ADD COLUMN components jsonb;
ALTER TABLE templates ADD COLUMN named boolean NOT NULL DEFAULT false;
-- When it last stood in the provider's list.
ALTER TABLE templates ADD COLUMN listed_at timestamptz;

-- When the list is to be read again; one replica reads it.
CREATE TABLE template_lists (
    business_account_id text PRIMARY KEY,
    due_at              timestamptz NOT NULL DEFAULT now(),
    read_at             timestamptz
);
