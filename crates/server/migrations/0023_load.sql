-- What a check-in looks for among thousands of devices.

CREATE INDEX challenges_by_expiry ON challenges (expires_at_ms);
CREATE INDEX device_sessions_by_expiry ON device_sessions (expires_at_ms);
CREATE INDEX runs_by_deployment_and_device ON runs (deployment, device);
