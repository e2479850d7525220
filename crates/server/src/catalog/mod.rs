//! The catalog: packages and their content, sequences, prestages, their bundles and the keys that sign them.

pub(crate) mod content_api;
pub(crate) mod drift;
pub(crate) mod keys;
pub(crate) mod packages;
pub(crate) mod patches;
pub(crate) mod prestages;
pub(crate) mod sequences;
pub(crate) mod stock;
pub(crate) mod upkeep;

use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/device/v1/content/manifests/{digest}", May::BeDevice, content_api::manifest)
        .get("/device/v1/content/manifests/{digest}/patches", May::BeDevice, patches::list)
        .get("/device/v1/content/manifests/{digest}/patches/{from}", May::BeDevice, patches::patch)
        .post("/device/v1/content/chunks", May::BeDevice, content_api::chunks)
        .post("/api/v1/content/missing", May::Publish, content_api::missing)
        .post("/api/v1/content/chunks", May::Publish, content_api::upload_chunks)
        .put("/api/v1/content/manifests/{digest}", May::Publish, content_api::upload_manifest)
        .get("/api/v1/content/manifests/{digest}", May::Publish, content_api::manifest)
        .post("/api/v1/content/frames", May::Publish, content_api::chunks)
        .get("/api/v1/content/stats", May::Publish, upkeep::stats)
        .post("/api/v1/content/verify", May::Publish, upkeep::verify)
        .post("/api/v1/content/gc", May::Administer, upkeep::gc)
        .get("/api/v1/trust", May::Anyone, keys::trust)
        .get("/api/v1/trust/keys", May::Publish, keys::list)
        .post("/api/v1/trust/keys", May::Administer, keys::add)
        .post("/api/v1/trust/keys/{name}/use", May::Administer, keys::start_using)
        .post("/api/v1/trust/keys/{name}/retire", May::Administer, keys::retire)
        .get("/api/v1/packages", May::View, packages::list)
        .post("/api/v1/packages", May::Publish, packages::publish)
        .get("/api/v1/packages/{name}/uses", May::View, packages::get_uses)
        .get("/api/v1/sequences", May::View, sequences::list)
        .get("/api/v1/sequences/{name}", May::View, sequences::text)
        .put("/api/v1/sequences/{name}", May::Publish, sequences::put)
        .get("/api/v1/sequences/{name}/versions", May::View, sequences::version_list)
        .get("/api/v1/sequences/{name}/versions/{version}", May::View, sequences::version_text)
        .post("/api/v1/sequences/lint", May::View, sequences::lint)
        .get("/api/v1/prestages", May::SeePrestages, prestages::list)
        .get("/api/v1/prestages/{name}", May::View, prestages::get)
        .put("/api/v1/prestages/{name}", May::Publish, prestages::put)
        .get("/api/v1/prestages/{name}/plan", May::View, prestages::plan)
        .get("/api/v1/prestages/{name}/drift", May::View, drift::drift)
        .get("/api/v1/prestage-diff", May::View, drift::diff)
        .post("/api/v1/prestages/{name}/build", May::Publish, prestages::build)
        .get("/api/v1/prestages/{name}/versions/{version}/root", May::Publish, prestages::root)
        .put("/api/v1/prestages/{name}/versions/{version}/signature", May::Publish, prestages::sign)
        .get("/api/v1/prestages/{name}/versions/{version}/bundle", May::FetchBundles, prestages::bundle)
}
