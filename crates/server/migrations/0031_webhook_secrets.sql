-- The salt of the secret before the present one, and until when messages are signed with that, too.
ALTER TABLE webhooks ADD COLUMN old_salt TEXT NOT NULL DEFAULT '';
ALTER TABLE webhooks ADD COLUMN old_until_ms BIGINT NOT NULL DEFAULT 0;
