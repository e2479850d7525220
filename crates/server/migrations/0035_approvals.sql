-- What would write over the disks of more machines than one person decides about, until another administrator has said yes or no:
-- one thing for each deployment. `what` is `resume`, `raise-cap` (to `cap`) or `retry-failed` (of `site`, or of all if that is empty).

CREATE TABLE deployment_approvals (
    deployment TEXT   NOT NULL PRIMARY KEY REFERENCES deployments (name),
    what       TEXT   NOT NULL,
    cap        BIGINT NOT NULL,
    site       TEXT   NOT NULL,
    machines   BIGINT NOT NULL,
    who        TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL
);
