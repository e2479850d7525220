-- For the asset system: the host name that a run told, so that the view asset_computers needs no program to read events.
-- A run from before has '?' until the server has looked into its events.

ALTER TABLE runs ADD COLUMN host_name TEXT NOT NULL DEFAULT '?';
