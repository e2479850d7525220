-- What a key signs: `bundle` or `wipe`, which is warrants.
ALTER TABLE signing_keys ADD COLUMN purpose TEXT NOT NULL DEFAULT 'bundle';

-- What a device told last of its disk's mark, as JSON, and when; empty if its agent never told.
ALTER TABLE devices ADD COLUMN mark       TEXT   NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN mark_at_ms BIGINT NOT NULL DEFAULT 0;

-- What may write over a device's disk once it was deployed. Whether one is spent is decided by what the disk says.
CREATE TABLE warrants (
    device      TEXT   NOT NULL REFERENCES devices (id),
    deployment  TEXT   NOT NULL REFERENCES deployments (name),
    text        TEXT   NOT NULL,
    public_key  TEXT   NOT NULL,
    signature   TEXT   NOT NULL,
    added_at_ms BIGINT NOT NULL,
    PRIMARY KEY (device, deployment)
);
