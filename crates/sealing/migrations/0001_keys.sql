-- One key per person (or per hour of webhook bodies), wrapped. The row outlives the key: a row
-- without bytes says "destroyed", no row says "never made".
--
-- Partitioned so that the file that held a destroyed key can be rewritten in milliseconds: an
-- UPDATE leaves the old bytes in a dead row, and even VACUUM leaves them in the page's free space.
CREATE TABLE keys (
    id           uuid        PRIMARY KEY,
    wrapped      bytea,
    kek_id       text        NOT NULL,
    version      integer     NOT NULL,
    created_at   timestamptz NOT NULL,
    destroyed_at timestamptz,
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
) PARTITION BY HASH (id);

DO $$
BEGIN
    FOR remainder IN 0..31 LOOP
        -- Wrapped keys stay in the row: no TOAST table to rewrite, no compression to try.
        EXECUTE format(
            'CREATE TABLE keys_%s PARTITION OF keys FOR VALUES WITH (MODULUS 32, REMAINDER %s)',
            lpad(remainder::text, 2, '0'), remainder);
        EXECUTE format(
            'ALTER TABLE keys_%s ALTER COLUMN wrapped SET STORAGE PLAIN',
            lpad(remainder::text, 2, '0'));
    END LOOP;
END $$;
