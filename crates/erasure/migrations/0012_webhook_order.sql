-- Calls about one purpose's data come in their own order: the erasure of the whole person doesn't wait behind one that a
-- participant of before doesn't take.
ALTER TABLE webhooks ADD COLUMN of_purpose boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN webhooks.of_purpose IS 'a command about one purpose''s data';
