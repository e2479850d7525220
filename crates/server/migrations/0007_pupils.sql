-- Pupils and who has which device. Personal data of minors stands in `pupils` and in the notes of `assignments`,
-- nowhere else: erasing a person empties both (docs/concepts/personal-data.md).

-- `id` is random and means nothing outside. `external_id` is the pupil number or user name of the school's own system;
-- `external_key` is how it is compared, and the random id once the person is erased.
-- `site` and `class` are texts as in devices. `several` is 1 if the pupil may have more than one device.
-- `listed_at_ms`: last time a pupil list named them; `left_at_ms` and `erased_at_ms` are 0 until it happens.
CREATE TABLE pupils (
    id            TEXT   NOT NULL PRIMARY KEY,
    external_id   TEXT   NOT NULL,
    external_key  TEXT   NOT NULL UNIQUE,
    name          TEXT   NOT NULL,
    site          TEXT   NOT NULL,
    class         TEXT   NOT NULL,
    several       BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    listed_at_ms  BIGINT NOT NULL,
    left_at_ms    BIGINT NOT NULL,
    erased_at_ms  BIGINT NOT NULL
);
CREATE INDEX pupils_by_class ON pupils (site, class);

-- `returned_at_ms` is 0 while the device is out. `ended_by` is the assignment that took its place (a swap), so that
-- undoing that one brings this one back. `undone` is 1 for one that was a mistake: no history shows it.
CREATE TABLE assignments (
    id               TEXT   NOT NULL PRIMARY KEY,
    device           TEXT   NOT NULL REFERENCES devices (id),
    pupil            TEXT   NOT NULL REFERENCES pupils (id),
    handed_out_at_ms BIGINT NOT NULL,
    handed_out_by    TEXT   NOT NULL,
    note             TEXT   NOT NULL,
    returned_at_ms   BIGINT NOT NULL,
    returned_by      TEXT   NOT NULL,
    condition_note   TEXT   NOT NULL,
    ended_by         TEXT   NOT NULL,
    undone           BIGINT NOT NULL
);
-- A device is with one pupil at most, whatever the code does.
CREATE UNIQUE INDEX assignments_open_by_device ON assignments (device) WHERE returned_at_ms = 0;
CREATE INDEX assignments_by_device ON assignments (device, handed_out_at_ms);
CREATE INDEX assignments_by_pupil ON assignments (pupil, handed_out_at_ms);
CREATE INDEX assignments_by_ended_by ON assignments (ended_by);

-- Settings of the hand-out: how long pupils are kept, the owner's line on labels.
CREATE TABLE hand_out_settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
