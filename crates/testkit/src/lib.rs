//! For tests and the demo alone: the fake machine, numbers from a seed, virtual machines, PostgreSQL, the drill of a simulated fleet.
//!
//! Deliberately absent: anything that a shipped program needs.

pub mod drill;
pub mod fake_machine;
pub mod numbers;
pub mod postgres;
pub mod vm;
