-- The country in which an address was issued, as the vault tells it: quiet hours are by its clocks. Links
-- from before get theirs when the vault's topic is read again.
ALTER TABLE gate_links ADD COLUMN region text, ADD COLUMN region_at timestamptz;
COMMENT ON COLUMN gate_links.region_at IS 'since when the country is known here';
