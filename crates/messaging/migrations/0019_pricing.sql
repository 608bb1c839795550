-- What the provider said in statuses that a message costs. The status that went furthest of those that said it counts,
-- so that it comes out the same in whatever order they come, and however often.
ALTER TABLE intents ADD COLUMN priced_by text;
ALTER TABLE intents ADD COLUMN price_category text;
ALTER TABLE intents ADD COLUMN price_model text;
ALTER TABLE intents ADD COLUMN price_type text;
-- Whether it is charged once it is delivered; none: not said.
ALTER TABLE intents ADD COLUMN billable boolean;
