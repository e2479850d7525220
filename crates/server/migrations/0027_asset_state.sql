-- What became of an asset: `in-use`, `retired` or `stolen`; why, since when (0 if it always was), and who said so.
ALTER TABLE devices ADD COLUMN asset_state TEXT NOT NULL DEFAULT 'in-use';
ALTER TABLE devices ADD COLUMN asset_state_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN asset_state_by TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN asset_state_at_ms BIGINT NOT NULL DEFAULT 0;
CREATE INDEX devices_by_asset_state ON devices (asset_state);
