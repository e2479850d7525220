//! Secrets for devices.

use wire::secrets::{SecretChange, SecretRow};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("POST", "/device/v1/runs/{run}/secrets", "Ask for a secret that a step needs, as a device.", "")
        .of("GET", "/api/v1/secrets", "List the secrets.", "Their names, and what asks for them; never a value.")
        .answers::<Vec<SecretRow>>()
        .whole()
        .of("PUT", "/api/v1/secrets/{name}", "Set a secret.", "For one site, or for all that have no value of their own. Nothing reads it back. Machines that ask from now on get it.")
        .takes::<SecretChange>(r#"{"value":"nine goats in the fog"}"#)
        .answers::<SecretRow>()
        .fails(400, "no-secret", "The value is empty.")
        .fails(400, "too-long", "The value is longer than 64 KiB.")
        .fails(400, "bad-secret", "The value has a NUL in it, which no program could be given.")
        .fails(409, "too-many", "There are 5000 already.")
        .of("DELETE", "/api/v1/secrets/{name}", "Remove a secret.", "Machines that need it stop at that step.")
        .query("site", "The value of this site; without it, the one of all that have none of their own.")
        .answers::<()>()
}
