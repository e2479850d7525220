//! Runs: check-in, orders, events as devices send them, and what is made of them.

pub(crate) mod admin;
pub(crate) mod challenge;
pub(crate) mod check_in;
pub(crate) mod decided;
mod device_key;
pub(crate) mod due;
pub(crate) mod events;
pub(crate) mod expected;
pub(crate) mod held;
pub(crate) mod history;
pub(crate) mod insights;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod orders;
pub(crate) mod plans;
mod refusals;
pub(crate) mod retry;
pub(crate) mod rows;
pub(crate) mod stalled;
pub(crate) mod stream;
pub(crate) mod warrants;

use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post("/device/v1/challenge", May::Anyone, challenge::post)
        .post("/device/v1/check-in", May::Anyone, check_in::check_in)
        .post("/device/v1/runs/{run}/events", May::BeDevice, events::post)
        .post("/api/v1/plans", May::View, plans::plan)
        .get("/api/v1/insights", May::View, insights::get)
        .get("/api/v1/insights.csv", May::View, insights::tables::csv)
        .get("/api/v1/insights.html", May::View, crate::web::insights_report)
        .get("/api/v1/runs", May::View, admin::list)
        .get("/api/v1/runs.csv", May::View, admin::csv)
        .get("/api/v1/runs/{run}", May::View, admin::get)
        .get("/api/v1/runs/{run}/events", May::View, held::get)
        .post("/api/v1/runs/{run}/stop", May::Operate, admin::stop)
        .post("/api/v1/runs/{run}/retry", May::Operate, retry::retry)
        .post("/api/v1/runs/{run}/rerun", May::Operate, retry::rerun)
        .get("/api/v1/deployments/{name}/warrants", May::Deploy, warrants::request)
        .put("/api/v1/deployments/{name}/warrants", May::Deploy, warrants::bring)
        .get("/api/v1/events/stream", May::View, stream::stream)
}
