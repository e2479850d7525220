//! Check-in, orders, events, and what is made of them.

use wire::admin_api::{RerunRequest, RunDetail, RunRow};
use wire::device_plan::{PlanReply, PlanRequest};
use wire::insights::Insights;
use wire::run_events::RunEvents;

use super::FILTER;
use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("POST", "/device/v1/challenge", "Ask for a challenge, as a device.", "")
        .of("POST", "/device/v1/check-in", "Check in, as a device.", "")
        .of("POST", "/device/v1/runs/{run}/events", "Report events, as a device.", "")
        .of("POST", "/api/v1/plans", "Tell how runs would go, before any machine is touched.", "It changes nothing.")
        .takes::<PlanRequest>(r#"{"devices":{"kind":"serials","serials":["PF1"]},"what":{"kind":"due"},"detailed":true}"#)
        .answers::<PlanReply>("")
        .fails(422, "sequence-refused", "The document to be planned has errors.")
        .of("GET", "/api/v1/insights", "Tell figures about the rollout.", "The filter of the overview chooses machines; their runs that ended are counted.")
        .queries(FILTER)
        .query("since", "The first day whose runs are counted.")
        .query("until", "The last day.")
        .answers::<Insights>("")
        .of("GET", "/api/v1/insights.csv", "Tell figures about the rollout as a table for a spreadsheet.", "")
        .queries(FILTER)
        .query("since", "The first day whose runs are counted.")
        .query("until", "The last day.")
        .query("part", "`rollout` (each site, the default), `failures`, `steps`, `days` or `hours`.")
        .answers_bytes("text/csv; charset=utf-8")
        .of("GET", "/api/v1/insights.html", "Tell figures about the rollout as one file to be sent on and printed.", "It needs nothing from outside; its language is that of `Accept-Language`.")
        .queries(FILTER)
        .query("since", "The first day whose runs are counted.")
        .query("until", "The last day.")
        .answers_bytes("text/html; charset=utf-8")
        .of("GET", "/api/v1/runs", "List runs, newest first.", "5000 at most without `limit`.")
        .query("state", "`running`, `stalled`, `failed`, `stopped` or `completed`.")
        .query("site", "The code of a site.")
        .query("collection", "That of the run's deployment.")
        .query("deployment", "The deployment.")
        .query("model", "The product.")
        .query("device", "Serial number, name, asset tag or id.")
        .query("since", "A day or a moment: runs that began then or later.")
        .answers::<Vec<RunRow>>("")
        .fails(400, "bad-state", "No run is ever in this state.")
        .fails(400, "bad-since", "It is no day.")
        .paged()
        .of("GET", "/api/v1/runs/{run}", "Show a run with its steps and its log.", "")
        .answers::<RunDetail>("")
        .of("GET", "/api/v1/runs/{run}/events", "Read the events of a run, to the letter.", "In their order, as many as fit; `after` goes on.")
        .query("after", "Only events with a higher `seq`.")
        .answers::<RunEvents>("")
        .of("POST", "/api/v1/runs/{run}/stop", "Stop a run.", "The machine hears it within seconds, and stops at once.")
        .answers::<RunRow>("")
        .fails(409, "not-running", "It has ended already.")
        .of("POST", "/api/v1/runs/{run}/retry", "Go on with a run that failed or was stopped, at the step where it was.", "")
        .answers::<RunRow>("")
        .fails(409, "completed", "It is completed: begin a new one.")
        .fails(409, "not-latest", "A later run has worked on the machine.")
        .fails(409, "deployment-stopped", "The deployment is stopped: resume it.")
        .fails(409, "deployment-cancelled", "The deployment is cancelled for the machine.")
        .of("POST", "/api/v1/runs/{run}/rerun", "Run the same deployment once more on the same machine.", "One that writes over the disk wants the typed words that the run tells as `confirm-rerun`.")
        .takes::<RerunRequest>(r#"{"confirm":"rerun PF3ABC12"}"#)
        .fails(409, "not-confirmed", "It writes over the disk, and the words are others than the hint says.")
        .answers::<RunRow>("")
        .fails(409, "deployment-stopped", "The deployment is stopped: resume it.")
        .fails(409, "deployment-cancelled", "The deployment is cancelled for the machine.")
        .of("GET", "/api/v1/events/stream", "Hear of changes as they happen.", "Server-sent events: `device` and `run` with a row, `resync` to read all anew.")
        .answers_bytes("text/event-stream")
}
