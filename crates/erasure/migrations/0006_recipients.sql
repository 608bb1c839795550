-- What recipients outside say that they hold on a person, sealed under her key until her archive has it.
CREATE TABLE disclosures (
    inquiry_id  uuid        NOT NULL,
    recipient   text        NOT NULL,
    request_id  uuid        NOT NULL,
    sealed      bytea       NOT NULL,
    PRIMARY KEY (inquiry_id, recipient)
);
CREATE INDEX disclosures_request ON disclosures (request_id);
