-- Codes that people send: what they stand for is the consent service's knowledge.
ALTER TABLE declarations DROP CONSTRAINT declarations_will_check;
ALTER TABLE declarations ADD CONSTRAINT declarations_will_check
    CHECK (will IN ('stop', 'start', 'code'));
ALTER TABLE declarations ADD COLUMN code text;
ALTER TABLE declarations ADD COLUMN sentence text;
ALTER TABLE declarations ADD CONSTRAINT declarations_code_check
    CHECK ((will = 'code') = (code IS NOT NULL));
