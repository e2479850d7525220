//! The import of what vendors send: upload, look, accept, take back.
//!
//! A file is read by [`crate::table`]; [`columns`] says what its columns mean, [`rows`] what stands in its lines, and
//! [`plan`] what that does to the fleet. All of that is pure. [`write`] carries a plan out, [`undo`] takes it back,
//! [`drafts`] keeps files until someone decides, [`routes`] is the API.

pub(crate) mod columns;
pub(crate) mod drafts;
pub(crate) mod plan;
pub(crate) mod profiles;
pub(crate) mod routes;
pub(crate) mod rows;
pub(crate) mod undo;
pub(crate) mod write;

#[cfg(test)]
mod tests;
