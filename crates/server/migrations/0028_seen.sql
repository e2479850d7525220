-- Where a machine in quarantine last asked from; the site is empty if none has the address.
ALTER TABLE strangers ADD COLUMN seen_address TEXT NOT NULL DEFAULT '';
ALTER TABLE strangers ADD COLUMN seen_site TEXT NOT NULL DEFAULT '';

-- When a user last signed in to the pages; 0 for never since this was noted.
ALTER TABLE users ADD COLUMN signed_in_at_ms BIGINT NOT NULL DEFAULT 0;
