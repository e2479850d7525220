//! Targeting: where machines are, who belongs together, what they are called, and whom a deployment reaches.

pub(crate) mod approvals;
pub(crate) mod classes;
pub(crate) mod collections;
pub(crate) mod lifecycle;
pub(crate) mod membership;
pub(crate) mod models;
pub(crate) mod names;
pub(crate) mod preview;
pub(crate) mod queue;
pub(crate) mod rules;
pub(crate) mod sites;
pub(crate) mod subnets;
