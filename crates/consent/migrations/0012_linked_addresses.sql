-- Whether an address is the person's own, or of somebody who is one with her by the platform's word: what stands
-- against either counts, and only her own are closed for good when she is erased. Rows from before are her own.
ALTER TABLE gate_links ADD COLUMN own boolean NOT NULL DEFAULT true;
