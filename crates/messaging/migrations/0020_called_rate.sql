-- Until when what was called of a number uses its rate up. `next_at` paces what is begun; this counts what goes out, for
-- pieces that were begun one after the other may be ready together.
ALTER TABLE send_rates ADD COLUMN called_until timestamptz;
