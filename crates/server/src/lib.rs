//! The server: HTTP, database, content library, jobs, web pages. The only async crate.
//!
//! Default deny: see [`auth::PUBLIC_ROUTES`]. What a device sends is stored as received; every page is a pure function
//! of it. No step, no disk and no boot image is known in here.

mod asset_file;
mod assets;
mod check_in;
mod collections;
mod connection;
mod content_api;
mod db;
mod deployments;
mod devices;
mod drift;
mod events;
mod identity;
mod limits;
mod live;
mod orders;
mod packages;
mod plans;
mod prestages;
mod receipts;
mod retry;
mod rows;
mod secret;
mod sequences;
mod serve;
mod stock;
mod stream;
mod text;
mod throttle;
mod tls;
mod variables;

pub mod auth;
pub mod error;
pub mod routes;
pub mod state;
pub mod web;

pub use serve::{Ready, ServerConfig, ServerError, serve, serve_until};
