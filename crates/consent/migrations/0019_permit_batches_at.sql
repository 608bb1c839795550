-- Verdicts end by age too. They come in the order of their time, and a small index costs a permit nothing.
CREATE INDEX permit_batches_at ON permit_batches USING brin (at);
