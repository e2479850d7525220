-- From where each thing was asked for. Rows of earlier releases have it in the detail of sign-ins only.
ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
