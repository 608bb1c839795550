-- Messages of one person are processed in the order in which they were stored, whichever replica takes them.
ALTER TABLE webhook_bodies ADD COLUMN position bigserial NOT NULL;
-- Who writes in it: 15 bits of a keyed hash of each of her names, too few to tell who. Bodies that share one are
-- processed one after the other.
ALTER TABLE webhook_bodies ADD COLUMN lanes smallint[] NOT NULL DEFAULT '{}';
CREATE INDEX webhook_bodies_order ON webhook_bodies (position, id) WHERE parked IS NULL;
