-- What keeps a device's key from being copied, as the device says: `tpm` or `software`. All keys before this were files.
ALTER TABLE device_keys ADD COLUMN protection TEXT NOT NULL DEFAULT 'software';
