//! For tests and the demo alone: chance with a seed, the fake machine, a line with faults, planted secrets, virtual machines and
//! who sits at them, a disk that forgets, PostgreSQL, TPMs, the drill of
//! a simulated fleet.
//!
//! Deliberately absent: anything that a shipped program needs.

pub mod chance;
pub mod drill;
pub mod fake_machine;
pub mod keyboard;
pub mod line;
mod monitor;
mod nbd;
pub mod planted;
pub mod postgres;
pub mod swtpm;
pub mod vm;
pub mod volatile_disk;
