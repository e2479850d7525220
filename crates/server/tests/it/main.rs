//! The server as its callers see it: over HTTPS, with everything real.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod admin;
mod approvals;
mod asset_table;
mod assets;
mod backup;
mod compression;
mod databases;
mod deployments;
mod device;
mod drift;
mod enrolments;
mod examples;
mod hand_out;
mod harness;
mod hostile;
mod imports;
mod keys;
mod nothing_to_steal;
mod operations;
mod patches;
mod plans;
mod prestage;
mod proxies;
mod quarantine;
mod secrets;
mod targeting;
mod upkeep;
mod variables;
mod warrants;
mod watching;
mod webhooks;
