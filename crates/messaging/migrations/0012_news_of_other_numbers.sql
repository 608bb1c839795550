-- The tier is the portfolio's: any of its numbers tells of it, and its news has an order of its own.
ALTER TABLE sending_numbers ADD COLUMN tier_told_at timestamptz;
UPDATE sending_numbers SET tier_told_at = told_at WHERE people_per_day IS NOT NULL;
