-- Everything the server keeps. Times are milliseconds since 1970, ids are texts, documents are JSON texts.
-- Only types and clauses that PostgreSQL has under the same or a mechanically replaceable name are used.

CREATE TABLE users (
    name          TEXT   NOT NULL PRIMARY KEY,
    password      TEXT   NOT NULL,
    one_time      BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE tokens (
    digest        TEXT   NOT NULL PRIMARY KEY,
    user_name     TEXT   NOT NULL REFERENCES users (name),
    title         TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE sessions (
    digest        TEXT   NOT NULL PRIMARY KEY,
    user_name     TEXT   NOT NULL REFERENCES users (name),
    expires_at_ms BIGINT NOT NULL
);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at_ms   BIGINT  NOT NULL,
    who     TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
);

CREATE TABLE packages (
    name            TEXT   NOT NULL,
    version         TEXT   NOT NULL,
    document        TEXT   NOT NULL,
    manifest        TEXT   NOT NULL,
    published_at_ms BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE package_current (
    name    TEXT NOT NULL PRIMARY KEY,
    version TEXT NOT NULL,
    FOREIGN KEY (name, version) REFERENCES packages (name, version)
);

CREATE TABLE sequences (
    name          TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    document      TEXT   NOT NULL,
    compiled      TEXT   NOT NULL,
    findings      TEXT   NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE prestages (
    name          TEXT   NOT NULL PRIMARY KEY,
    definition    TEXT   NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

CREATE TABLE prestage_versions (
    prestage    TEXT   NOT NULL REFERENCES prestages (name),
    version     BIGINT NOT NULL,
    document    TEXT   NOT NULL,
    built_at_ms BIGINT NOT NULL,
    PRIMARY KEY (prestage, version)
);

CREATE TABLE sites (
    code TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE devices (
    id               TEXT   NOT NULL PRIMARY KEY,
    serial           TEXT   NOT NULL,
    serial_key       TEXT   NOT NULL UNIQUE,
    asset_tag        TEXT   NOT NULL,
    asset_tag_key    TEXT   NOT NULL,
    uuid             TEXT   NOT NULL,
    vendor           TEXT   NOT NULL,
    product          TEXT   NOT NULL,
    sku              TEXT   NOT NULL,
    baseboard        TEXT   NOT NULL,
    site             TEXT   NOT NULL REFERENCES sites (code),
    class            TEXT   NOT NULL,
    message          TEXT   NOT NULL,
    waiting          TEXT   NOT NULL,
    facts            TEXT   NOT NULL,
    identity         TEXT   NOT NULL,
    staged           TEXT   NOT NULL,
    imported_at_ms   BIGINT NOT NULL,
    checked_in_at_ms BIGINT NOT NULL,
    last_seen_at_ms  BIGINT NOT NULL
);
CREATE INDEX devices_by_uuid ON devices (uuid);
CREATE INDEX devices_by_asset_tag ON devices (asset_tag_key);

CREATE TABLE device_keys (
    device      TEXT   NOT NULL PRIMARY KEY REFERENCES devices (id),
    device_key  TEXT   NOT NULL UNIQUE,
    bound_at_ms BIGINT NOT NULL
);

-- Machines that checked in and could not be matched to exactly one asset.
CREATE TABLE strangers (
    id              TEXT   NOT NULL PRIMARY KEY,
    device_key      TEXT   NOT NULL UNIQUE,
    facts           TEXT   NOT NULL,
    message         TEXT   NOT NULL,
    identity        TEXT   NOT NULL,
    last_seen_at_ms BIGINT NOT NULL
);

CREATE TABLE challenges (
    challenge     TEXT   NOT NULL PRIMARY KEY,
    expires_at_ms BIGINT NOT NULL
);

CREATE TABLE collections (
    name  TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL
);

CREATE TABLE collection_members (
    collection TEXT NOT NULL REFERENCES collections (name),
    device     TEXT NOT NULL REFERENCES devices (id),
    PRIMARY KEY (collection, device)
);
CREATE INDEX collection_members_by_device ON collection_members (device);

CREATE TABLE deployments (
    name          TEXT   NOT NULL PRIMARY KEY,
    collection    TEXT   NOT NULL REFERENCES collections (name),
    document      TEXT   NOT NULL,
    stopped       BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE runs (
    id               TEXT   NOT NULL PRIMARY KEY,
    device           TEXT   NOT NULL REFERENCES devices (id),
    deployment       TEXT   NOT NULL REFERENCES deployments (name),
    sequence         TEXT   NOT NULL,
    sequence_version BIGINT NOT NULL,
    order_document   TEXT   NOT NULL,
    state            TEXT   NOT NULL,
    stop             BIGINT NOT NULL,
    take             BIGINT NOT NULL,
    acknowledged     BIGINT NOT NULL,
    server_bytes     BIGINT NOT NULL,
    identity         TEXT   NOT NULL,
    started_at_ms    BIGINT NOT NULL,
    ended_at_ms      BIGINT NOT NULL,
    last_seen_at_ms  BIGINT NOT NULL
);
CREATE INDEX runs_by_device ON runs (device, started_at_ms);
CREATE INDEX runs_by_deployment ON runs (deployment);

-- A device whose journal was still in memory when power failed begins its run anew: that is the next take.
CREATE TABLE events (
    run            TEXT   NOT NULL REFERENCES runs (id),
    take           BIGINT NOT NULL,
    seq            BIGINT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    bytes          BLOB   NOT NULL,
    PRIMARY KEY (run, take, seq)
);

CREATE TABLE run_boots (
    run             TEXT   NOT NULL REFERENCES runs (id),
    boot            BIGINT NOT NULL,
    interface_bytes BIGINT NOT NULL,
    PRIMARY KEY (run, boot)
);

CREATE TABLE device_sessions (
    digest        TEXT   NOT NULL PRIMARY KEY,
    device        TEXT   NOT NULL REFERENCES devices (id),
    run           TEXT   NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

CREATE TABLE receipts (
    digest         TEXT   NOT NULL PRIMARY KEY,
    serial_key     TEXT   NOT NULL,
    document       TEXT   NOT NULL,
    received_at_ms BIGINT NOT NULL
);
CREATE INDEX receipts_by_serial ON receipts (serial_key);
