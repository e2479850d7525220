//! For tests and the demo alone: the fake machine, and virtual machines.
//!
//! Deliberately absent: anything that a shipped program needs.

pub mod fake_machine;
pub mod vm;
