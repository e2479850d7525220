//! What the API reference tells of each route, by folder:
//!
//! ```text
//! .of("POST", "/api/v1/users", "Make an account.", "It gets a one-time password, which is shown once.")
//! .takes::<NewUser>(r#"{"name":"kari","role":"school-admin","site":"BJO"}"#)
//! .answers::<OneTimePassword>("")
//! .fails(409, "exists", "There is an account of this name already.")
//! ```
//!
//! What a route takes needs an example, what it answers may have one. A test fails for a route that isn't told here.

mod catalog;
mod fleet;
mod imports;
mod people;
mod pupils;
mod runs;
mod targeting;
mod webhooks;

use crate::routes::docs::Texts;

/// All folders.
pub(super) const ALL: &[fn(Texts) -> Texts] = &[
    people::texts,
    fleet::texts,
    catalog::texts,
    runs::texts,
    pupils::texts,
    imports::texts,
    webhooks::texts,
    targeting::texts,
];
