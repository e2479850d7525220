-- What the overview shows besides, and the names that people give to what it shows.

-- The release of the machine's boot image, as it said when it last checked in from there.
ALTER TABLE devices ADD COLUMN boot_image TEXT NOT NULL DEFAULT '';

-- A view is a name for the query of the overview. `owner` is empty for one that is shared with everybody.
CREATE TABLE saved_views (
    owner       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    query       TEXT   NOT NULL,
    saved_at_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);

-- The list of runs begins with the newest.
CREATE INDEX runs_by_start ON runs (started_at_ms);
