//! The import of what vendors send: upload, look, accept, take back.
//!
//! A file is read by [`crate::table`]; [`columns`] says what its columns mean, [`rows`] what stands in its lines, and
//! [`plan`] what that does to the fleet; [`changes`] lists what a plan writes, [`undo`] what takes it back. All of that is
//! pure. [`stage`] carries changes out, [`drafts`] keeps files until someone decides, [`routes`] is the API.

pub(crate) mod changes;
pub(crate) mod columns;
pub(crate) mod drafts;
pub(crate) mod plan;
pub(crate) mod profiles;
pub(crate) mod routes;
pub(crate) mod rows;
pub(crate) mod stage;
pub(crate) mod undo;

#[cfg(test)]
mod tests;
