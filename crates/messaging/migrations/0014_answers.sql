-- While webhooks wait to be processed only answers are sent: they are found without a walk over all that is queued.
CREATE INDEX intents_answers ON intents (not_before, id) WHERE state = 'queued' AND template IS NULL;
