-- What the template's first button answers with: the code by which a person agrees.
ALTER TABLE intents ADD COLUMN reply_code text;
