-- The requests that restrict the use of somebody's data (GDPR Article 18). Both generations: a rebuild may be under way.
ALTER TABLE live.consents ADD COLUMN restricted_by jsonb NOT NULL DEFAULT '[]';
ALTER TABLE IF EXISTS next.consents ADD COLUMN restricted_by jsonb NOT NULL DEFAULT '[]';
