//! The HTTP API seen from outside, blocking: devices check in, send events and fetch content; operators do the rest.
//!
//! TLS trusts exactly one CA, given as PEM, and no other: no roots of the system, no proxy from the environment, no
//! redirect, no plain HTTP. Nothing is tried twice in here: what is worth another attempt, and when, is the caller's
//! to decide ([`ClientError::is_temporary`] says what may be).

mod admin;
mod answer;
mod asset_system;
mod assignments;
mod classes;
mod connection;
mod content;
mod device;
mod error;
mod imports;
mod insights;
mod people;
mod quarantine;
mod reconciliation;
mod run_events;
mod sealed;
mod secrets;
mod sites;
mod targeting;
mod views;
mod webhooks;

pub use assignments::{AssignmentFilter, ListOptions, PupilFilter};
pub use connection::Client;
pub use error::ClientError;
pub use sealed::{NotForUs, RunKey};

/// The JSON of an answer is at most this long: the log and steps of the longest run stay far below.
pub const JSON_BYTES_MAX: u64 = 64 << 20;
/// The bytes of a manifest are at most this many: forty times the manifest of a 100 GB image.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;
