-- What an import or its undo is about to do is laid out here, a few hundred rows at a time, and taken over at once.

-- Rises whenever an asset comes, goes or has other values: a plan that was made before it rests on another fleet.
CREATE TABLE fleet_version (
    id      BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO fleet_version (id, version) VALUES (1, 0);

-- The values of assets that are new or changed.
CREATE TABLE staged_assets (
    stage         TEXT NOT NULL,
    device        TEXT NOT NULL,
    serial        TEXT NOT NULL,
    serial_key    TEXT NOT NULL,
    asset_tag     TEXT NOT NULL,
    asset_tag_key TEXT NOT NULL,
    uuid          TEXT NOT NULL,
    vendor        TEXT NOT NULL,
    product       TEXT NOT NULL,
    sku           TEXT NOT NULL,
    baseboard     TEXT NOT NULL,
    site          TEXT NOT NULL,
    class         TEXT NOT NULL,
    PRIMARY KEY (stage, device)
);

-- Their free fields.
CREATE TABLE staged_fields (
    stage  TEXT NOT NULL,
    device TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (stage, device, name)
);

-- Devices that join the collection, leave it, or are removed: `what` is join, leave or remove.
CREATE TABLE staged_devices (
    stage  TEXT NOT NULL,
    what   TEXT NOT NULL,
    device TEXT NOT NULL,
    PRIMARY KEY (stage, what, device)
);

-- Sites that assets name. `named` is 1 if the file has a name for the site, which then wins.
CREATE TABLE staged_sites (
    stage TEXT   NOT NULL,
    code  TEXT   NOT NULL,
    name  TEXT   NOT NULL,
    named BIGINT NOT NULL,
    PRIMARY KEY (stage, code)
);

-- What becomes `import_rows`.
CREATE TABLE staged_rows (
    stage     TEXT   NOT NULL,
    line      BIGINT NOT NULL,
    device    TEXT   NOT NULL,
    serial    TEXT   NOT NULL,
    result    TEXT   NOT NULL,
    detail    TEXT   NOT NULL,
    was       TEXT   NOT NULL,
    became    TEXT   NOT NULL,
    joined    BIGINT NOT NULL,
    PRIMARY KEY (stage, line)
);

-- Devices are removed by the thousand, and each must have no session.
CREATE INDEX device_sessions_by_device ON device_sessions (device);
