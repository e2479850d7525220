-- Secrets for devices, sealed by a key that only the data folder holds. `site` is empty for the value of all sites.
CREATE TABLE secrets (
    name          TEXT   NOT NULL,
    site          TEXT   NOT NULL,
    sealed        BLOB   NOT NULL,
    changed_by    TEXT   NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    PRIMARY KEY (name, site)
);

-- Which run was given which secret: never the secret. `session` is the digest of the session it was asked for with, `run_key` the
-- device's public key that it was sealed to, `site` whose value it was, `answers` how often it was given out. `counts` is 0 for what
-- was released before an administrator had the run tried again.
CREATE TABLE secret_releases (
    id             INTEGER PRIMARY KEY,
    run            TEXT   NOT NULL REFERENCES runs (id),
    secret         TEXT   NOT NULL,
    session        TEXT   NOT NULL,
    run_key        TEXT   NOT NULL,
    site           TEXT   NOT NULL,
    answers        BIGINT NOT NULL,
    counts         BIGINT NOT NULL,
    released_at_ms BIGINT NOT NULL
);
CREATE INDEX secret_releases_by_run ON secret_releases (run, secret);
CREATE INDEX secret_releases_by_secret ON secret_releases (secret, site);
-- One session, one release, whatever happens at once.
CREATE UNIQUE INDEX secret_releases_once ON secret_releases (run, secret, session) WHERE counts = 1;
