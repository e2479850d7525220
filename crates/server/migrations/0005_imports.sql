-- Files that vendors send, from draft to undo; who a machine is, and what an administrator decided about it.

-- What an asset has besides the columns of `devices`: order number, warranty end, and whatever else a file says.
CREATE TABLE device_fields (
    device TEXT NOT NULL REFERENCES devices (id),
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (device, name)
);
CREATE INDEX device_fields_by_name ON device_fields (name, value);

-- How the columns of one vendor's files are understood; `titles` is how such a file is recognised.
CREATE TABLE import_profiles (
    name          TEXT   NOT NULL PRIMARY KEY,
    titles        TEXT   NOT NULL,
    mapping       TEXT   NOT NULL,
    updated_by    TEXT   NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

-- `state` is draft, accepted, discarded or undone; `settings`, `counts` and `report` are JSON texts.
CREATE TABLE imports (
    id             INTEGER PRIMARY KEY,
    file_name      TEXT    NOT NULL,
    digest         TEXT    NOT NULL,
    file_bytes     BIGINT  NOT NULL,
    content        BLOB    NOT NULL,
    settings       TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    counts         TEXT    NOT NULL,
    report         TEXT    NOT NULL,
    uploaded_by    TEXT    NOT NULL,
    uploaded_at_ms BIGINT  NOT NULL,
    accepted_by    TEXT    NOT NULL,
    accepted_at_ms BIGINT  NOT NULL,
    undone_by      TEXT    NOT NULL,
    undone_at_ms   BIGINT  NOT NULL
);
CREATE INDEX imports_by_digest ON imports (digest);

-- What an accepted import did, row by row: `was` is empty for a new asset. `joined` is 1 if the row put its machine
-- into the collection.
CREATE TABLE import_rows (
    import_id BIGINT NOT NULL REFERENCES imports (id),
    line      BIGINT NOT NULL,
    device    TEXT   NOT NULL,
    serial    TEXT   NOT NULL,
    result    TEXT   NOT NULL,
    detail    TEXT   NOT NULL,
    was       TEXT   NOT NULL,
    became    TEXT   NOT NULL,
    joined    BIGINT NOT NULL,
    PRIMARY KEY (import_id, line)
);
CREATE INDEX import_rows_by_device ON import_rows (device);

-- The UUID a machine showed at its last check-in; shared ones say nothing.
ALTER TABLE devices ADD COLUMN seen_uuid TEXT NOT NULL DEFAULT '';
CREATE INDEX devices_by_seen_uuid ON devices (seen_uuid);

-- The names a machine had when an administrator decided that its key belongs to this device.
ALTER TABLE device_keys ADD COLUMN decided_names TEXT NOT NULL DEFAULT '';
ALTER TABLE device_keys ADD COLUMN decided_by TEXT NOT NULL DEFAULT '';

-- Why a machine is in quarantine: unknown, two-records, second-claimant, moved-key; and which record it claims.
ALTER TABLE strangers ADD COLUMN reason TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE strangers ADD COLUMN claims TEXT NOT NULL DEFAULT '';
ALTER TABLE strangers ADD COLUMN first_seen_at_ms BIGINT NOT NULL DEFAULT 0;

-- What is to happen when a machine in quarantine asks again; `decision` is a JSON text.
CREATE TABLE quarantine_decisions (
    device_key    TEXT   NOT NULL PRIMARY KEY,
    decision      TEXT   NOT NULL,
    device        TEXT   NOT NULL,
    decided_by    TEXT   NOT NULL,
    decided_at_ms BIGINT NOT NULL
);
