-- The country in which an address was issued, as the vault tells it: quiet hours are by its clocks.
-- Links from before this have none.
ALTER TABLE gate_links ADD COLUMN region text;
