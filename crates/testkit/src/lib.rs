//! For tests and the demo alone: the fake machine, and virtual machines, PostgreSQL.
//!
//! Deliberately absent: anything that a shipped program needs.

pub mod fake_machine;
pub mod postgres;
pub mod vm;
