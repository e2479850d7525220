//! Secrets for devices: a domain's join password, a Wi-Fi's passphrase. People set them and never read them back ([`admin`]); they
//! are stored sealed by a key outside the database ([`seal`]), and released to a run that needs them, sealed to that run's own
//! key ([`release`]). See `docs/formats/secrets.md`. *Absent:* a way for anybody but a device to get one.

mod admin;
pub(crate) mod release;
pub(crate) mod seal;

pub(crate) use self::admin::{refuse_unset, set_names};
pub(crate) use self::release::{Unset, lacking, would_lack};

use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/secrets", May::Administer, admin::list)
        .put("/api/v1/secrets/{name}", May::Administer, admin::set)
        .delete("/api/v1/secrets/{name}", May::Administer, admin::remove)
        .post("/device/v1/runs/{run}/secrets", May::BeDevice, release::post)
}
