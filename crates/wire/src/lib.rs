//! What crosses a boundary: ids, digests, facts, packages, compiled sequences, events, orders, receipts and the
//! requests and replies of both APIs.
//!
//! No I/O, no clock, no sockets. Every type here is a *wire* type: fields are only ever added, an old field never gets
//! a new meaning, and readers pass over what they do not know.

#[macro_use]
mod text;

pub mod admin_api;
pub mod asset_computers;
pub mod assets;
pub mod assignments;
pub mod audit;
pub mod boot_config;
pub mod bundle;
pub mod classes;
pub mod collections;
pub mod content;
pub mod deployments;
pub mod device_api;
pub mod device_plan;
pub mod digest;
pub mod drift;
pub mod event;
pub mod facts;
pub mod find;
pub mod imports;
pub mod insights;
pub mod keys;
pub mod layout;
pub mod mark;
pub mod names;
pub mod order;
pub mod package;
pub mod people;
pub mod plain;
pub mod problem;
pub mod pupils;
pub mod quarantine;
pub mod reasons;
pub mod receipt;
pub mod reconciliation;
pub mod run_events;
pub mod run_plan;
pub mod secrets;
pub mod sequence;
pub mod sites;
pub mod variables;
pub mod views;
pub mod warrant;
pub mod webhooks;
