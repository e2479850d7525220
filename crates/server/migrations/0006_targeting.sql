-- Sites, classes, names, rules of collections, the queue of machines that wait for a place.

ALTER TABLE sites ADD COLUMN slots BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sites ADD COLUMN expected_seconds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sites ADD COLUMN time_zone TEXT NOT NULL DEFAULT '';

CREATE TABLE site_subnets (
    subnet TEXT NOT NULL PRIMARY KEY,
    site   TEXT NOT NULL REFERENCES sites (code)
);

-- `seen_site` is where a machine last checked in from, empty if no site has its address.
ALTER TABLE devices ADD COLUMN seen_site TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN seen_address TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN assigned_name TEXT NOT NULL DEFAULT '';

-- Machines that would begin and have no place yet. `held_by` is `site` or `deployment`.
CREATE TABLE waiting (
    device          TEXT   NOT NULL PRIMARY KEY REFERENCES devices (id),
    deployment      TEXT   NOT NULL,
    site            TEXT   NOT NULL,
    held_by         TEXT   NOT NULL,
    arrived_at_ms   BIGINT NOT NULL,
    asks_again_at_ms BIGINT NOT NULL
);
CREATE INDEX waiting_by_site ON waiting (site);
CREATE INDEX runs_by_state ON runs (state);

CREATE TABLE classes (
    site        TEXT   NOT NULL REFERENCES sites (code),
    name        TEXT   NOT NULL,
    school_year TEXT   NOT NULL,
    title       TEXT   NOT NULL,
    teacher     TEXT   NOT NULL,
    PRIMARY KEY (site, name)
);

-- What a class needs: names of packages, in order.
CREATE TABLE class_software (
    site     TEXT   NOT NULL,
    class    TEXT   NOT NULL,
    package  TEXT   NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (site, class, package),
    FOREIGN KEY (site, class) REFERENCES classes (site, name)
);

-- A rule is an expression; empty for none. `limit_to` names the collection that no member may be outside of.
ALTER TABLE collections ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE collections ADD COLUMN limit_to TEXT NOT NULL DEFAULT '';

-- Devices that are kept out of a collection, whatever else says that they are in.
CREATE TABLE collection_excluded (
    collection TEXT   NOT NULL REFERENCES collections (name),
    device     TEXT   NOT NULL REFERENCES devices (id),
    reason     TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL,
    PRIMARY KEY (collection, device)
);
CREATE INDEX collection_excluded_by_device ON collection_excluded (device);
