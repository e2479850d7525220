-- The keys that sign bundles. `place` says where the private half is: server (in `file`), elsewhere or removed. A name and
-- a key are used once, so that a row is never removed.
CREATE TABLE signing_keys (
    name          TEXT   NOT NULL PRIMARY KEY,
    public_key    TEXT   NOT NULL UNIQUE,
    state         TEXT   NOT NULL,
    place         TEXT   NOT NULL,
    file          TEXT   NOT NULL,
    added_at_ms   BIGINT NOT NULL,
    retired_at_ms BIGINT NOT NULL
);

-- Who signed a version, or is to; empty until the server has taken over the key of an earlier release.
ALTER TABLE prestage_versions ADD COLUMN signer TEXT NOT NULL DEFAULT '';
ALTER TABLE prestage_versions ADD COLUMN signed BIGINT NOT NULL DEFAULT 1;
