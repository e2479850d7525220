-- Devices that a deployment leaves alone, whatever its collection says.

CREATE TABLE deployment_cancelled (
    deployment TEXT   NOT NULL REFERENCES deployments (name),
    device     TEXT   NOT NULL REFERENCES devices (id),
    who        TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL,
    PRIMARY KEY (deployment, device)
);
