-- ANALYZE keeps samples of each column in pg_statistic, which no rewrite of a partition reaches: none of wrapped keys.
ALTER TABLE keys ALTER COLUMN wrapped SET STATISTICS 0;

DO $$
BEGIN
    FOR remainder IN 0..31 LOOP
        EXECUTE format('ALTER TABLE keys_%s ALTER COLUMN wrapped SET STATISTICS 0',
                       lpad(remainder::text, 2, '0'));
    END LOOP;
END $$;
