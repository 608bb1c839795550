-- The language of the word by which somebody stopped, where it is a word of one language only: she is answered in it.
ALTER TABLE declarations ADD COLUMN language text;
