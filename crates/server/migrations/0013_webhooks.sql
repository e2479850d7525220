-- Webhooks: who is told what, what is still to be told, and what came of it.

-- The secret is not stored: it is made from `salt` by the key in the data folder. `events` is a JSON list of names, empty
-- for all; `state` is active or paused; `reason` says why it is paused.
CREATE TABLE webhooks (
    id            INTEGER PRIMARY KEY,
    url           TEXT    NOT NULL,
    title         TEXT    NOT NULL,
    events        TEXT    NOT NULL,
    ca_pem        TEXT    NOT NULL,
    salt          TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    created_by    TEXT    NOT NULL,
    created_at_ms BIGINT  NOT NULL
);

-- Written in the transaction of what they tell of.
CREATE TABLE webhook_events (
    id         INTEGER PRIMARY KEY,
    message_id TEXT    NOT NULL UNIQUE,
    kind       TEXT    NOT NULL,
    at_ms      BIGINT  NOT NULL,
    body       TEXT    NOT NULL
);
CREATE INDEX webhook_events_by_time ON webhook_events (at_ms);

-- `state` is waiting, delivered or failed.
CREATE TABLE webhook_deliveries (
    webhook   BIGINT NOT NULL REFERENCES webhooks (id),
    event     BIGINT NOT NULL REFERENCES webhook_events (id),
    state     TEXT   NOT NULL,
    attempts  BIGINT NOT NULL,
    due_at_ms BIGINT NOT NULL,
    PRIMARY KEY (webhook, event)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook, state, due_at_ms);
CREATE INDEX webhook_deliveries_by_event ON webhook_deliveries (event);

-- `status` is 0 if no answer came; `error` says why.
CREATE TABLE webhook_attempts (
    id          INTEGER PRIMARY KEY,
    webhook     BIGINT  NOT NULL REFERENCES webhooks (id),
    event       BIGINT  NOT NULL REFERENCES webhook_events (id),
    at_ms       BIGINT  NOT NULL,
    duration_ms BIGINT  NOT NULL,
    status      BIGINT  NOT NULL,
    answer      TEXT    NOT NULL,
    error       TEXT    NOT NULL
);
CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts (webhook, event);
CREATE INDEX webhook_attempts_by_event ON webhook_attempts (event);

-- Told once, until it is true anew.
ALTER TABLE runs ADD COLUMN stall_told BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN cap_told BIGINT NOT NULL DEFAULT 0;
