-- When its outcome was known, which a status that only says how far it got doesn't change: such a status
-- touches no indexed column then, and its row stays on its page.
ALTER TABLE intents ADD COLUMN settled_at timestamptz;
UPDATE intents SET settled_at = changed_at
    WHERE campaign_id IS NOT NULL AND state IN ('accepted', 'failed');
DROP INDEX intents_outcomes;
CREATE INDEX intents_outcomes ON intents (campaign_id, settled_at)
    WHERE campaign_id IS NOT NULL AND state IN ('accepted', 'failed');
ALTER TABLE intents SET (fillfactor = 70);
