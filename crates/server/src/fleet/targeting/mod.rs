//! Targeting: where machines are, who belongs together, what they are called, and whom a deployment reaches.

pub(crate) mod queue;
pub(crate) mod sites;
pub(crate) mod subnets;
