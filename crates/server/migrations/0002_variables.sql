-- Variables that administrators set for some devices; `value` is a JSON text.
-- `name` is as it is compared: a model in small letters, a serial number as in devices.serial_key.

CREATE TABLE variables (
    scope         TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    key           TEXT   NOT NULL,
    value         TEXT   NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, name, key)
);
