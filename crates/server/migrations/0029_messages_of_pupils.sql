-- Which pupil a message is about, by the random id; empty for none. Erasing a pupil takes their number out of it.
ALTER TABLE webhook_events ADD COLUMN pupil TEXT NOT NULL DEFAULT '';
CREATE INDEX webhook_events_by_pupil ON webhook_events (pupil);

-- Messages of before do not say whom they are about. Those that are still to be delivered stay until they are; the log of
-- the others goes.
DELETE FROM webhook_attempts WHERE event IN (SELECT id FROM webhook_events WHERE kind LIKE 'assignment.%');
DELETE FROM webhook_deliveries WHERE state <> 'waiting'
    AND event IN (SELECT id FROM webhook_events WHERE kind LIKE 'assignment.%');
DELETE FROM webhook_events WHERE kind LIKE 'assignment.%'
    AND id NOT IN (SELECT event FROM webhook_deliveries);

-- Kept refusals name who has a device; what was refused can be asked again.
DELETE FROM idempotency WHERE status >= 400;
