-- People: what someone is, whose machines they see, where they sign in; tokens that end; an audit that shows tampering.

ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE users ADD COLUMN site TEXT NOT NULL DEFAULT '';
-- The prestages whose bundles a factory operator may fetch, as a JSON list.
ALTER TABLE users ADD COLUMN prestages TEXT NOT NULL DEFAULT '[]';
ALTER TABLE users ADD COLUMN language TEXT NOT NULL DEFAULT '';
-- Who they are at the identity provider; empty for local accounts.
ALTER TABLE users ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN display TEXT NOT NULL DEFAULT '';

-- What a token may do of what its user may, as a JSON list; empty: all of it.
ALTER TABLE tokens ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN expires_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN last_used_at_ms BIGINT NOT NULL DEFAULT 0;
-- Tokens made before there was an end get the one they would have got.
UPDATE tokens SET expires_at_ms = created_at_ms + 7776000000;

-- The chain: each row's number, and the digest of the row before and its own fields.
ALTER TABLE audit ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN digest TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_by_number ON audit (number);

-- Who sent a receipt; empty for those sent before it was noted.
ALTER TABLE receipts ADD COLUMN sent_by TEXT NOT NULL DEFAULT '';

-- Answers to requests with an Idempotency-Key, for those who ask again.
CREATE TABLE idempotency (
    user_name     TEXT   NOT NULL,
    request_key   TEXT   NOT NULL,
    request       TEXT   NOT NULL,
    status        BIGINT NOT NULL,
    content_type  TEXT   NOT NULL,
    body          BLOB   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_name, request_key)
);
