-- For which reasons it was told that a machine didn't take the order of a run: once for each.
ALTER TABLE runs ADD COLUMN refusals_told TEXT NOT NULL DEFAULT '';
