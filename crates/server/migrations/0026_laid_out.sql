-- The free fields of assets and the rows of imports are laid out where they stay. Which of them count is told by what the
-- device, or the import, names: so thousands begin to count without being written again. Views show those that do.

-- `stage` is the attempt that laid a field out. Until it counts, its device may not be there.
CREATE TABLE laid_fields (
    device TEXT NOT NULL,
    stage  TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (device, stage, name)
);
INSERT INTO laid_fields (device, stage, name, value) SELECT device, '', name, value FROM device_fields;
CREATE INDEX laid_fields_by_name ON laid_fields (name, value);
ALTER TABLE devices ADD COLUMN fields_stage TEXT NOT NULL DEFAULT '';
DROP TABLE device_fields;
CREATE VIEW device_fields AS
    SELECT laid_fields.device, laid_fields.name, laid_fields.value FROM laid_fields
    JOIN devices ON devices.id = laid_fields.device AND devices.fields_stage = laid_fields.stage;
DROP TABLE staged_fields;

-- An import that has done nothing has no stage.
CREATE TABLE laid_rows (
    stage  TEXT   NOT NULL,
    line   BIGINT NOT NULL,
    device TEXT   NOT NULL,
    serial TEXT   NOT NULL,
    result TEXT   NOT NULL,
    detail TEXT   NOT NULL,
    was    TEXT   NOT NULL,
    became TEXT   NOT NULL,
    joined BIGINT NOT NULL,
    PRIMARY KEY (stage, line)
);
INSERT INTO laid_rows (stage, line, device, serial, result, detail, was, became, joined)
    SELECT CAST(import_id AS TEXT), line, device, serial, result, detail, was, became, joined FROM import_rows;
ALTER TABLE imports ADD COLUMN stage TEXT NOT NULL DEFAULT '';
UPDATE imports SET stage = CAST(id AS TEXT) WHERE state IN ('accepted', 'undone');
DROP TABLE import_rows;
CREATE VIEW import_rows AS
    SELECT imports.id AS import_id, laid_rows.line, laid_rows.device, laid_rows.serial, laid_rows.result,
    laid_rows.detail, laid_rows.was, laid_rows.became, laid_rows.joined
    FROM laid_rows JOIN imports ON imports.stage = laid_rows.stage;
DROP TABLE staged_rows;
