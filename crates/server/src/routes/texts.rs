//! What the API reference tells of each route, by folder:
//!
//! ```text
//! .of("POST", "/api/v1/users", "Make an account.", "It gets a one-time password, which is shown once.")
//! .takes::<NewUser>(r#"{"name":"kari","role":"school-admin","site":"BJO"}"#)
//! .answers::<OneTimePassword>()
//! .fails(409, "exists", "There is an account of this name already.")
//! ```
//!
//! What a route takes needs an example; that of what it answers comes from a real server, see `answers`. A test fails for a
//! route that isn't told here.

mod catalog;
mod fleet;
mod imports;
mod people;
mod pupils;
mod runs;
mod secrets;
mod targeting;
mod webhooks;

use crate::routes::docs::Texts;

/// Where lists end that have no pages.
const LIST_ROWS: u32 = 5000;
const _: () = assert!(crate::limits::LIST_ROWS_MAX == LIST_ROWS as i64);

/// The filter of the overview.
const FILTER: &[(&str, &str)] = &[
    ("site", "The code of a site."),
    ("class", "A class."),
    ("model", "A product."),
    ("collection", "A collection."),
    ("deployment", "A deployment; of runs, those of this one."),
    ("bundle", "What is staged, such as `book-14@3`."),
    ("state", "The state of the machine."),
    ("step", "The step that its run is at."),
    ("done", "How far its run is, as the overview offers it."),
    (
        "seen",
        "When it was heard of last, as the overview offers it.",
    ),
    (
        "fetched",
        "How much it fetched over the network, as the overview offers it.",
    ),
    (
        "asset",
        "`retired`, `stolen` or `all`; those in use if it isn't said.",
    ),
    ("text", "Part of a serial number, a name or an asset tag."),
];

/// All folders.
pub(super) const ALL: &[fn(Texts) -> Texts] = &[
    people::texts,
    fleet::texts,
    catalog::texts,
    runs::texts,
    secrets::texts,
    pupils::texts,
    imports::texts,
    webhooks::texts,
    targeting::texts,
];
