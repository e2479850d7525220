//! The program as its users have it: every command at least once, against a real server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asset_system;
mod backup;
mod device;
mod guide;
mod keys;
mod killed;
mod refusals;
mod simulate;
mod upgrade;
mod wiring;
mod world;
