//! The fleet: machines as they were bought, found, grouped and aimed at.

pub(crate) mod aliases;
pub(crate) mod asset;
pub(crate) mod asset_computers;
pub(crate) mod asset_state;
pub(crate) mod assets;
pub(crate) mod collections;
pub(crate) mod deployments;
pub(crate) mod device_table;
pub(crate) mod devices;
pub(crate) mod identity;
pub(crate) mod import;
pub(crate) mod quarantine;
pub(crate) mod receipts;
pub(crate) mod reconcile;
pub(crate) mod saved_views;
pub(crate) mod targeting;
pub(crate) mod variables;
pub(crate) mod version;
pub(crate) mod view;

use crate::fleet::targeting::{
    approvals, classes, collections as rule, lifecycle, models, names, preview, sites,
};
use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post("/api/v1/assets/import", May::ChangeAssets, assets::import)
        .get("/api/v1/asset-computers", May::View, asset_computers::list)
        .get("/api/v1/imports", May::ChangeAssets, import::routes::list)
        .post("/api/v1/imports", May::ChangeAssets, import::routes::upload)
        .get("/api/v1/imports/{id}", May::ChangeAssets, import::routes::get)
        .post("/api/v1/imports/{id}/settings", May::ChangeAssets, import::routes::settings)
        .post("/api/v1/imports/{id}/accept", May::ChangeAssets, import::routes::accept)
        .post("/api/v1/imports/{id}/discard", May::ChangeAssets, import::routes::discard)
        .post("/api/v1/imports/{id}/undo", May::ChangeAssets, import::routes::take_back)
        .get("/api/v1/imports/{id}/reconciliation", May::ChangeAssets, reconcile::routes::of_import)
        .get("/api/v1/imports/{id}/reconciliation.csv", May::ChangeAssets, reconcile::routes::csv_of_import)
        .post("/api/v1/receipts/reconcile", May::ChangeAssets, reconcile::routes::of_serials)
        .get("/api/v1/quarantine", May::ChangeAssets, quarantine::list)
        .post("/api/v1/quarantine/decide", May::ChangeAssets, quarantine::decide)
        .post("/api/v1/quarantine/{machine}/undo", May::ChangeAssets, quarantine::undo)
        .get("/api/v1/import-profiles", May::ChangeAssets, import::profiles::list)
        .put("/api/v1/import-profiles/{name}", May::ChangeAssets, import::profiles::put)
        .post("/api/v1/import-profiles/{name}/remove", May::ChangeAssets, import::profiles::remove)
        .get("/api/v1/collections", May::View, collections::list)
        .put("/api/v1/collections/{name}", May::Deploy, collections::put)
        .get("/api/v1/collections/{name}/members", May::View, collections::members)
        .post("/api/v1/collections/{name}/members", May::Deploy, collections::change_members)
        .get("/api/v1/deployments", May::View, deployments::list)
        .put("/api/v1/deployments/{name}", May::Deploy, deployments::put)
        .post("/api/v1/deployments/preview", May::Deploy, preview::preview)
        .get("/api/v1/deployments/{name}/status", May::View, lifecycle::status)
        .post("/api/v1/deployments/{name}/stop", May::Deploy, lifecycle::stop)
        .post("/api/v1/deployments/{name}/resume", May::Deploy, lifecycle::resume)
        .post("/api/v1/deployments/{name}/cap", May::Deploy, lifecycle::cap)
        .post("/api/v1/deployments/{name}/approve", May::Deploy, approvals::approve)
        .post("/api/v1/deployments/{name}/decline", May::Operate, approvals::decline)
        .post("/api/v1/deployments/{name}/start", May::Operate, lifecycle::start)
        .post("/api/v1/deployments/{name}/cancel", May::Operate, lifecycle::cancel)
        .post("/api/v1/deployments/{name}/uncancel", May::Operate, lifecycle::uncancel)
        .post("/api/v1/deployments/{name}/retry-failed", May::Operate, lifecycle::retry_failed)
        .get("/api/v1/collections/{name}/rule", May::View, rule::get)
        .put("/api/v1/collections/{name}/rule", May::Deploy, rule::put)
        .get("/api/v1/collections/{name}/preview", May::View, rule::preview)
        .post("/api/v1/collections/{name}/excluded", May::Deploy, rule::exclude)
        .get("/api/v1/variables", May::View, variables::list)
        .post("/api/v1/variables", May::Deploy, variables::change)
        .get("/api/v1/devices.csv", May::View, device_table::csv)
        .get("/api/v1/find", May::View, devices::find)
        .get("/api/v1/devices", May::View, devices::list)
        .get("/api/v1/devices/{id}", May::View, devices::get)
        .get("/api/v1/devices/{id}/startable", May::Operate, devices::startable)
        .post("/api/v1/devices/{id}/reset-key", May::ChangeAssets, devices::reset_key)
        .get("/api/v1/devices/{id}/asset", May::View, asset::get)
        .post("/api/v1/devices/{id}/asset", May::ChangeAssets, asset::change)
        .post("/api/v1/devices/{id}/retire", May::ChangeAssets, asset_state::retire)
        .post("/api/v1/devices/{id}/report-stolen", May::Assign, asset_state::report_stolen)
        .post("/api/v1/devices/{id}/restore", May::ChangeAssets, asset_state::restore)
        .get("/api/v1/devices/{id}/variables", May::View, variables::of_device)
        .get("/api/v1/views", May::View, saved_views::list)
        .get("/api/v1/views/{name}", May::View, saved_views::get)
        .put("/api/v1/views/{name}", May::View, saved_views::put)
        .delete("/api/v1/views/{name}", May::View, saved_views::remove)
        .get("/api/v1/classes", May::View, classes::list)
        .put("/api/v1/classes/{site}/{name}", May::Deploy, classes::put)
        .delete("/api/v1/classes/{site}/{name}", May::Deploy, classes::remove)
        .get("/api/v1/models", May::View, models::list)
        .get("/api/v1/model-aliases", May::View, aliases::list)
        .put("/api/v1/model-aliases/{name}", May::ChangeAssets, aliases::put)
        .delete("/api/v1/model-aliases/{name}", May::ChangeAssets, aliases::remove)
        .post("/api/v1/device-names", May::Deploy, names::name)
        .get("/api/v1/sites", May::View, sites::list)
        .get("/api/v1/sites/{code}", May::View, sites::get)
        .put("/api/v1/sites/{code}", May::Deploy, sites::put)
        .delete("/api/v1/sites/{code}", May::Deploy, sites::remove)
        .post("/api/v1/devices/move-to-seen-site", May::ChangeAssets, sites::move_to_seen)
        .get("/api/v1/receipts", May::SeeReceipts, receipts::list)
        .post("/api/v1/receipts", May::SendReceipts, receipts::post)
        .post("/api/v1/receipts/import", May::SendReceipts, receipts::import)
}
