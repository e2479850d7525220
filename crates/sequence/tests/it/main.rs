//! The engine on fake machines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod crash;
mod examples;
mod failures;
mod mutated;
mod random;
mod run_plan;
mod steps;
mod world;
