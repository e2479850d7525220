//! The page of one device: what is known of it, where it stands, what it would run, what it ran.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use maud::{Markup, html};
use serde_json::json;
use wire::admin_api::{DeviceRow, DeviceState, ReceiptRow, RunRow};
use wire::assignments::AssignmentRow;
use wire::names::DeploymentName;
use wire::receipt::ReceiptResult;
use wire::variables::{EffectiveVariable, VariableOrigin};

use super::filter::encode;
use super::hand_out::lists::history_table;
use super::targeting::deployments::uncancel;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, format, layout};
use crate::error::Failure;
use crate::fleet::{receipts, variables};
use crate::people::auth::User;
use crate::people::roles::May;
use crate::pupils::store::HistoryOf;
use crate::routes::page::PageQuery;
use crate::state::AppState;

/// Characters of a value that are shown; the rest is in its title.
const VALUE_CHARS_MAX: usize = 200;

/// What the page shows.
#[derive(Debug, Clone)]
pub struct Known {
    /// The device.
    pub row: DeviceRow,
    /// Its runs, newest first.
    pub runs: Vec<RunRow>,
    /// The receipts that name its serial number.
    pub receipts: Vec<ReceiptRow>,
    /// What its variables come out as.
    pub variables: Vec<EffectiveVariable>,
    /// Who had it and has it; nothing for those who may not see pupils.
    pub hand_outs: Vec<AssignmentRow>,
    /// What may be started for it now.
    pub startable: Vec<Startable>,
    /// What is cancelled for it.
    pub cancelled: Vec<Startable>,
}

/// A deployment that may be let begin on the device.
#[derive(Debug, Clone)]
pub struct Startable {
    /// Its name.
    pub name: DeploymentName,
    /// The words that confirm it, for one that writes over disks.
    pub confirm: Option<String>,
}

/// `GET /devices/{serial}`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(serial): Path<String>,
) -> Result<Markup, Failure> {
    let rows = state.device_rows_for(&user).await?;
    let row = rows
        .into_iter()
        .find(|row| row.serial == serial && row.state != DeviceState::Quarantined)
        .ok_or_else(|| Failure::not_found("device with this serial number"))?;
    let runs = state.runs_of_device(row.device).await?;
    let receipts = if user.may(May::SeeReceipts) {
        receipts::list(
            State(state.clone()),
            Extension(user.clone()),
            Query(PageQuery::default()),
        )
        .await?
        .1
        .0
    } else {
        Vec::new()
    };
    let receipts = receipts
        .into_iter()
        .filter(|receipt| receipt.device == Some(row.device))
        .collect();
    let id = Path(row.device.to_string());
    let startable = match visitor.user.may(May::Operate) {
        true => state.startable(&row).await?,
        false => Vec::new(),
    };
    let cancelled = match visitor.user.may(May::Operate) {
        true => state.cancelled_for(&row).await?,
        false => Vec::new(),
    };
    let hand_outs = match visitor.user.may(May::ViewPupils) {
        true => {
            let of = HistoryOf::Device(row.device);
            state.history_for(&user, of).await?
        }
        false => Vec::new(),
    };
    let Json(variables) = variables::of_device(State(state), Extension(user), id).await?;
    let known = Known {
        row,
        runs,
        receipts,
        variables: variables.variables,
        hand_outs,
        startable,
        cancelled,
    };
    let content = page(visitor.words, &known, visitor.user.may(May::ChangeAssets));
    Ok(visitor.page(title(&known.row), None, &content))
}

/// What the device is called.
fn title(row: &DeviceRow) -> &str {
    row.name.as_deref().unwrap_or(&row.serial)
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, known: &Known, may_change: bool) -> Markup {
    let row = &known.row;
    let actions = html! {
        (layout::chip(words, row.state))
        a.button href=(layout::plan_address(&row.serial)) { (words.t("Plan of a run")) }
        a.button href={ "/api/v1/labels.png?devices=" (encode(&row.serial)) } download={ (row.serial) ".png" } { (words.t("Label (PNG)")) }
        @for deployment in &known.startable { (start(words, row, deployment)) }
        @for one in &known.cancelled {
            (uncancel(words, one.name.as_str(), row.device, one.confirm.as_deref(),
                &words.fill(en("Cancelled: let {deployment} begin again"), &[("deployment", &one.name)])))
        }
        @if may_change {
            button type="button" data-api={ "POST /api/v1/devices/" (row.device) "/reset-key" }
                data-confirm=(words.t("Forget the key of this device? The next machine that is recognised as it will be bound to it."))
                data-confirm-yes=(words.t("Forget the key")) { (words.t("Forget the key")) }
        }
    };
    html! {
        (draw::head(&[("/devices", words.t("Devices"))], title(row), "", &actions))
        section.card aria-label=(words.t("Facts")) { (facts(words, row)) }
        @if let Some(message) = &row.message { p.notice { (layout::icon(layout::WARNING)) (layout::prose(message)) } }
        (runs(words, &known.runs))
        @if !known.hand_outs.is_empty() {
            (draw::block("hand-outs-title", words.t("Hand-outs and returns"), "", &history_table(words, &known.hand_outs)))
        }
        (variable_rows(words, &known.variables))
        (receipt_rows(words, &known.receipts))
    }
}

fn start(words: Words, row: &DeviceRow, deployment: &Startable) -> Markup {
    let name = deployment.name.as_str();
    let confirm = deployment.confirm.as_deref();
    let body = json!({ "devices": [row.device], "confirm": confirm.unwrap_or_default() });
    html! {
        button.danger[confirm.is_some()] type="button" data-api={ "POST /api/v1/deployments/" (encode(name)) "/start" }
            data-body=(body) data-confirm-type=[confirm]
            data-confirm=(words.fill(en("Start {deployment} for this machine?"), &[("deployment", &name)]))
            data-done=(words.t("It begins when the machine checks in.")) {
            (words.fill(en("Start {deployment}"), &[("deployment", &name)]))
        }
    }
}

fn facts(words: Words, row: &DeviceRow) -> Markup {
    let text = |text: &str| html! { (layout::or_dash(text)) };
    let seen = row.last_seen_at_ms.map(|at_ms| words.time(at_ms));
    draw::facts(&[
        (
            words.t("Serial number"),
            html! { span.mono { (row.serial) } },
        ),
        (words.t("Asset tag"), text(&row.asset_tag)),
        (
            words.t("Model"),
            html! { (row.model.vendor) " " (row.model.product) },
        ),
        (
            words.t("Site"),
            html! { (layout::or_dash(&row.site_name)) " " span.muted { (row.site) } },
        ),
        (words.t("Class"), text(&row.class)),
        (
            words.t("Collections"),
            html! {
                @if row.collections.is_empty() { (words.t("none")) }
                @for (index, name) in row.collections.iter().enumerate() { @if index > 0 { ", " } (name) }
            },
        ),
        (
            words.t("Last heard of"),
            seen.unwrap_or_else(|| html! { (words.t("never")) }),
        ),
    ])
}

fn runs(words: Words, runs: &[RunRow]) -> Markup {
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            html! {
                th scope="row" { a href={ "/runs/" (run.run) } { (words.time(run.started_at_ms)) } }
                td { (layout::chip(words, run.state)) }
                td { (run.deployment) }
                td { (run.sequence) }
                td { (run.step_number) "/" (run.step_count) " " (run.step_title) }
                td.number { (format::clock(run.elapsed_seconds)) }
                td.number { (words.bytes(run.content.network_packed)) }
            }
        })
        .collect();
    let columns = [
        words.t("Started"),
        words.t("State"),
        words.t("Deployment"),
        words.t("Sequence"),
        words.t("Step"),
        words.t("Took"),
        words.t("Fetched"),
    ];
    let content = if rows.is_empty() {
        html! { p.muted { (words.t("No run yet.")) } }
    } else {
        draw::table(words.t("Runs"), &columns, &[5, 6], &rows)
    };
    draw::block(
        "runs-title",
        words.t("Runs"),
        &words.number(runs.len() as u64),
        &content,
    )
}

fn variable_rows(words: Words, variables: &[EffectiveVariable]) -> Markup {
    let rows: Vec<_> = variables
        .iter()
        .map(|variable| {
            let value = variable.value.to_string();
            let is_long = value.chars().nth(VALUE_CHARS_MAX).is_some();
            html! {
                th scope="row" { span.mono { (variable.key) } }
                td.value title=[is_long.then_some(&value)] {
                    code { (value.chars().take(VALUE_CHARS_MAX).collect::<String>()) @if is_long { "…" } }
                }
                td {
                    @match &variable.origin {
                        VariableOrigin::Asset => span.muted { (words.t("the asset")) },
                        origin => (origin),
                    }
                }
            }
        })
        .collect();
    let columns = [words.t("Variable"), words.t("Value"), words.t("From")];
    let table = draw::table(words.t("Variables"), &columns, &[], &rows);
    let note = words.number(variables.len() as u64);
    draw::block("variables-title", words.t("Variables"), &note, &table)
}

fn receipt_rows(words: Words, receipts: &[ReceiptRow]) -> Markup {
    let rows: Vec<_> = receipts
        .iter()
        .map(|row| {
            let receipt = &row.receipt;
            html! {
                th scope="row" { (words.time(row.received_at_ms)) }
                td {
                    @match receipt.result {
                        ReceiptResult::Staged => (words.t("Staged")),
                        ReceiptResult::Failed => (words.t("Failed")),
                    }
                }
                td {
                    @match (&receipt.prestage, receipt.prestage_version) {
                        (Some(name), Some(version)) => { (name) "@" (version) },
                        _ => "—",
                    }
                }
                td.number { (format::clock(receipt.seconds)) }
                td { (receipt.errors.join(": ")) }
            }
        })
        .collect();
    let columns = [
        words.t("Received"),
        words.t("Result"),
        words.t("Prestage"),
        words.t("Took"),
        words.t("Errors"),
    ];
    let content = if rows.is_empty() {
        html! { p.muted { (words.t("The factory has sent no receipt for it.")) } }
    } else {
        draw::table(words.t("Receipts"), &columns, &[3], &rows)
    };
    let note = words.t("What the factory claims; the machine itself has the last word.");
    draw::block("receipts-title", words.t("Receipts"), note, &content)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_device_tells_its_runs_and_nothing_it_says_is_markup() {
        let rows = sample::devices();
        let row = rows.iter().find(|row| row.run.is_some()).unwrap().clone();
        let run = row.run.clone().unwrap();
        let mut known = Known {
            runs: vec![run.clone()],
            row,
            receipts: Vec::new(),
            variables: Vec::new(),
            hand_outs: Vec::new(),
            startable: Vec::new(),
            cancelled: Vec::new(),
        };
        let html = page(Words::ENGLISH, &known, true).into_string();
        assert!(html.contains(&format!("/runs/{}", run.run)) && html.contains("reset-key"));
        assert!(
            !page(Words::ENGLISH, &known, false)
                .into_string()
                .contains("reset-key")
        );
        known.startable = ["check", "wipe"]
            .map(|name| Startable {
                name: name.parse().unwrap(),
                confirm: (name == "wipe").then(|| "wipe 1".to_owned()),
            })
            .to_vec();
        let html = page(Words::ENGLISH, &known, false).into_string();
        assert!(html.contains("POST /api/v1/deployments/check/start"));
        assert_eq!(html.matches("data-confirm-type=\"wipe 1\"").count(), 1);
        known.cancelled = vec![known.startable.remove(1)];
        let html = page(Words::ENGLISH, &known, false).into_string();
        assert!(html.contains("POST /api/v1/deployments/wipe/uncancel") && html.contains("wipe 1"));
        known.row = sample::hostile_device();
        sample::assert_harmless(&page(Words::BOKMAL, &known, true).into_string());
    }
}
