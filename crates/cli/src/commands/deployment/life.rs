//! How a deployment would go and how it stands, as text.

use std::time::Duration;

use client::Client;
use wire::admin_api::Deployment;
use wire::deployments::{Acted, Affected, Approval, Awaited, DeploymentPreview, DeploymentStatus};
use wire::names::DeploymentName;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, seconds};

/// How often `status --watch` looks.
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Serial numbers shown for each reason.
const SERIALS_SHOWN: usize = 5;

/// Shows how a deployment stands, once or until nothing is left to do.
pub(super) fn status(
    client: &Client,
    name: &DeploymentName,
    watch: bool,
    output: &Output,
) -> Outcome<()> {
    loop {
        let status = client
            .deployment_status(name)
            .trying(|| format!("cannot show the deployment {name}"))?;
        output.answer(&status, |look| render_status(&status, look))?;
        let running = ["running", "stalled"]
            .iter()
            .filter_map(|state| status.states.get(*state))
            .sum::<u32>();
        if !watch || (status.due == 0 || status.stopped) && running == 0 {
            return Ok(());
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

/// A deployment before it is made.
pub(super) fn render_preview(preview: &DeploymentPreview, look: &Look) -> String {
    let mut text = format!(
        "deployment {} would begin on {} ({} in the collection)\n",
        preview.name,
        count(preview.due as usize, "device"),
        preview.members
    );
    if preview.wipes {
        let steps = preview.wiping_steps.join(", ");
        text.push_str(&format!("  it writes over disks: {}\n", clean(&steps)));
    }
    if preview.second_person {
        text.push_str("  another administrator has to approve it before any machine begins\n");
    }
    if let Some(median) = preview.median_seconds {
        text.push_str(&format!(
            "  earlier runs took {} (median)\n",
            seconds(median)
        ));
    }
    for warning in &preview.warnings {
        text.push_str(&format!("  note: {}\n", clean(warning)));
    }
    if !preview.held.is_empty() {
        text.push_str(&format!("\nheld back\n{}", render_affected(&preview.held)));
    }
    let mut models = Table::new(&["model", ">devices", "prestage", "missing"]);
    for model in &preview.models {
        models.row([
            model.model.clone(),
            model.devices.to_string(),
            if model.has_prestage { "yes" } else { "none" }.into(),
            model.missing.join("; "),
        ]);
    }
    if !models.is_empty() {
        text.push_str(&format!("\n{}", models.render(look, "")));
    }
    if let Some(words) = &preview.confirm {
        text.push_str(&format!("\nto make it: --confirm \"{}\"\n", clean(words)));
    }
    text
}

/// That a deployment stays stopped until somebody else has said yes; nothing if it goes on.
pub(super) fn awaits(row: &Deployment) -> String {
    match row.stopped {
        true => approved_first(&row.name),
        false => String::new(),
    }
}

/// That nothing happens until somebody else has said yes.
pub(super) fn approved_first(name: &DeploymentName) -> String {
    format!(
        "no machine begins it until another administrator approves it: `forestage deployment approve {name}`\n"
    )
}

/// What another administrator has to decide.
fn render_approval(status: &DeploymentStatus, approval: &Approval) -> String {
    let (name, machines) = (&status.name, count(approval.machines as usize, "device"));
    let what = match approval.what {
        Awaited::Resume => format!("that it begins on up to {machines}"),
        Awaited::RaiseCap => format!("that it may touch {machines}"),
        Awaited::RetryFailed => format!("that the failed runs of {machines} go on"),
    };
    format!(
        "  {} asked {what}; another administrator decides:\n  \
         forestage deployment approve {name} --confirm \"{}\"\n  forestage deployment decline {name}\n",
        clean(&approval.asked_by),
        clean(&approval.confirm)
    )
}

/// A deployment as it stands.
pub(super) fn render_status(status: &DeploymentStatus, look: &Look) -> String {
    let states: Vec<String> = status
        .states
        .iter()
        .map(|(state, number)| format!("{number} {}", state.replace('-', " ")))
        .collect();
    let stopped = if status.stopped { ", stopped" } else { "" };
    let mut text = format!(
        "deployment {}: {} runs {}{stopped}\n",
        status.name, status.collection, status.sequence
    );
    text.push_str(&format!(
        "  touched {} of {}, cap {}; due {}, of those {} wait for a place\n",
        status.touched, status.reach, status.cap, status.due, status.waiting
    ));
    if !states.is_empty() {
        text.push_str(&format!("  runs: {}\n", states.join(", ")));
    }
    if let Some(stand) = &status.warrants {
        text.push_str(&format!(
            "  deployed before: {} with a warrant, {} without\n",
            stand.ready, stand.wait
        ));
        if stand.wait > 0 {
            text.push_str(&format!(
                "  `forestage warrant request {}` fetches what is to be signed for them\n",
                status.name
            ));
        }
    }
    if let Some(approval) = &status.approval {
        text.push_str(&render_approval(status, approval));
    }
    if let Some(words) = status
        .confirm_resume
        .as_ref()
        .filter(|_| !status.awaits(Awaited::Resume))
    {
        text.push_str(&format!(
            "  it writes over disks; to let it go on:\n  forestage deployment resume {} --confirm \"{}\"\n",
            status.name,
            clean(words)
        ));
    }
    if let Some(words) = &status.confirm_cap {
        text.push_str(&format!(
            "  it would touch more than its cap, so no further device begins; if that is right:\n  \
             forestage deployment raise-cap {} {} --confirm \"{}\"\n",
            status.name,
            status.reach,
            clean(words)
        ));
    }
    if !status.cancelled.is_empty() {
        let left: Vec<&str> = status
            .cancelled
            .iter()
            .take(SERIALS_SHOWN)
            .map(|one| one.serial.as_str())
            .collect();
        let more = match status.cancelled.len() > left.len() {
            true => ", …",
            false => "",
        };
        text.push_str(&format!(
            "  cancelled for {}: {}{more}\n",
            count(status.cancelled.len(), "device"),
            clean(&left.join(", "))
        ));
    }
    let mut failed = Table::new(&["serial", "step", "error"]);
    for run in &status.failed {
        failed.row([
            run.serial.clone(),
            run.step.clone().unwrap_or_else(|| "-".into()),
            run.error.clone(),
        ]);
    }
    if !failed.is_empty() {
        text.push_str(&format!("\nfailed\n{}", failed.render(look, "  ")));
    }
    text
}

/// What came of something that was asked of devices.
pub(super) fn render_acted(acted: &Acted, verb: &str) -> String {
    let mut text = format!("{verb} on {}\n", count(acted.done as usize, "device"));
    if !acted.left.is_empty() {
        text.push_str(&format!("left alone\n{}", render_affected(&acted.left)));
    }
    text
}

fn render_affected(all: &[Affected]) -> String {
    all.iter()
        .map(|one| {
            let shown = &one.serials[..one.serials.len().min(SERIALS_SHOWN)];
            let more = if one.devices as usize > shown.len() {
                ", …"
            } else {
                ""
            };
            let reason = clean(&one.reason);
            match shown {
                [] => format!("  {} {reason}\n", one.devices),
                shown => {
                    let shown = clean(&shown.join(", "));
                    format!("  {} {reason}: {shown}{more}\n", one.devices)
                }
            }
        })
        .collect()
}
