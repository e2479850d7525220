//! The server: HTTP, database, content library, jobs, web pages. The only async crate.
//!
//! Default deny: see [`people::auth::PUBLIC_ROUTES`]. What a device sends is stored as received; every page is a pure function
//! of it. No step, no disk and no boot image is known in here.

mod catalog;
mod compress;
mod connection;
mod days;
mod db;
mod fleet;
mod health;
mod in_process;
mod limits;
mod metrics;
mod problem;
mod proxies;
mod pupils;
mod ranges;
mod runs;
mod secret;
mod serve;
mod spreadsheet;
mod table;
mod text;
mod tls;
mod vault;
mod webhooks;

pub mod backup;
pub mod error;
pub mod people;
pub mod readers;
pub mod routes;
pub mod state;
pub mod web;

pub use db::{DatabaseUrl, DatabaseUrlError};
pub use in_process::InProcess;
pub use proxies::TrustedProxy;
pub use serve::{Patience, Ready, ServerConfig, ServerError, serve, serve_until};
