//! An order against the factory's receipts: what was staged, what is missing, what nobody ordered.
//!
//! [`judge`] decides and is pure, [`read`] gathers what it needs, [`routes`] is the API. Nothing here writes: a receipt is
//! a claim, and what it says changes no machine.

pub(crate) mod judge;
pub(crate) mod read;
pub(crate) mod routes;
