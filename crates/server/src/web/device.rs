//! The page of one device: what is known of it, where it stands, what it would run, what it ran.

use axum::Json;
use axum::extract::{Extension, Path, State};
use maud::{Markup, html};
use serde_json::json;
use wire::admin_api::{CollectionRow, DeviceRow, DeviceState, KeyProtection, ReceiptRow, RunRow};
use wire::assets::{AssetDetail, AssetState, OutOfUse};
use wire::assignments::AssignmentRow;
use wire::deployments::Startable;
use wire::names::{DeploymentName, DeviceId};
use wire::receipt::ReceiptResult;
use wire::sites::SiteRow;
use wire::variables::{EffectiveVariable, VariableScope};

use super::filter::encode;
use super::hand_out::lists::history_table;
use super::imports::receipts::{only_without_secure_boot, remark};
use super::targeting::deployments::uncancel;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, format, layout};
use crate::error::Failure;
use crate::fleet::{receipts, variables};
use crate::people::auth::User;
use crate::people::roles::May;
use crate::pupils::store::HistoryOf;
use crate::state::AppState;

/// Characters of a value that are shown; the rest is in its title.
const VALUE_CHARS_MAX: usize = 200;

/// What the page shows.
#[derive(Debug, Clone)]
pub struct Known {
    /// The device.
    pub row: DeviceRow,
    /// What is known of it as an asset.
    pub asset: AssetDetail,
    /// The sites that it may be moved to.
    pub sites: Vec<SiteRow>,
    /// Its runs, newest first.
    pub runs: Vec<RunRow>,
    /// The receipts that name its serial number.
    pub receipts: Vec<ReceiptRow>,
    /// The collections that it may be put into; none for those who may not.
    pub collections: Vec<CollectionRow>,
    /// What its variables come out as.
    pub variables: Vec<EffectiveVariable>,
    /// Who had it and has it; nothing for those who may not see pupils.
    pub hand_outs: Vec<AssignmentRow>,
    /// What may be started for it now.
    pub startable: Vec<Startable>,
    /// What is cancelled for it.
    pub cancelled: Vec<Startable>,
    /// What may be cancelled for it.
    pub cancellable: Vec<DeploymentName>,
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
    let receipts = match user.may(May::SeeReceipts) {
        true => receipts::of_device(&state, &user, row.device).await?,
        false => Vec::new(),
    };
    let asset = state.asset_for(&user, row.device).await?;
    let sites = state.site_rows(&user.reach).await?;
    let id = Path(row.device.to_string());
    let is_own = visitor.user.covers(&row.site);
    let may_operate = visitor.user.may(May::Operate) && is_own;
    let startable = match may_operate {
        true => state.startable(&row).await?,
        false => Vec::new(),
    };
    let cancelled = match may_operate {
        true => state.cancelled_for(&row).await?,
        false => Vec::new(),
    };
    let cancellable = match visitor.user.may(May::Operate) {
        true => {
            let mut deployments = state.deployments().await?;
            deployments.retain(|deployment| {
                row.collections.contains(&deployment.collection)
                    && !deployment.stopped
                    && !cancelled.iter().any(|one| one.name == deployment.name)
            });
            let names = deployments.into_iter().map(|deployment| deployment.name);
            names.collect()
        }
        false => Vec::new(),
    };
    let collections = match visitor.user.may(May::Deploy) {
        true => state.collections().await?,
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
        asset,
        sites,
        runs,
        receipts,
        collections,
        variables: variables.variables,
        hand_outs,
        startable,
        cancelled,
        cancellable,
    };
    let rights = Rights {
        change: visitor.user.may(May::ChangeAssets) && is_own,
        report_stolen: visitor.user.may(May::Assign),
        is_own,
    };
    let content = page(visitor.words, &known, rights);
    Ok(visitor.page(title(&known.row), None, &content))
}

/// What the device is called.
fn title(row: &DeviceRow) -> &str {
    row.name.as_deref().unwrap_or(&row.serial)
}

/// What the visitor may do with the asset.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    /// Correct, retire and restore it, and forget its key.
    pub change: bool,
    /// Report it stolen.
    pub report_stolen: bool,
    /// It is of a site that they look after, not a visitor there.
    pub is_own: bool,
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, known: &Known, rights: Rights) -> Markup {
    let row = &known.row;
    let actions = html! {
        (layout::chip(words, row.state))
        a.button href=(layout::plan_address(&row.serial)) { (words.t("Plan of a run")) }
        @if rights.is_own {
            a.button href={ "/api/v1/labels.png?devices=" (encode(&row.serial)) } download={ (row.serial) ".png" } { (words.t("Label (PNG)")) }
        }
        @for deployment in &known.startable { (start(words, row, deployment)) }
        @for one in &known.cancelled {
            (uncancel(words, one.name.as_str(), row.device, one.confirm.as_deref(),
                &words.fill(en("Cancelled: let {deployment} begin again"), &[("deployment", &one.name)])))
        }
        @if rights.change {
            button type="button" data-api={ "POST /api/v1/devices/" (row.device) "/reset-key" }
                data-confirm=(words.t("Forget the key of this device? The next machine that is recognised as it will be bound to it."))
                data-confirm-yes=(words.t("Forget the key")) { (words.t("Forget the key")) }
        }
    };
    html! {
        (draw::head(&[("/devices", words.t("Devices"))], title(row), "", &actions))
        @if !rights.is_own { (visiting(words, row)) }
        @if let Some(out) = &row.out_of_use { (out_of_use(words, out)) }
        section.card aria-label=(words.t("Facts")) { (facts(words, known)) }
        @if let Some(message) = layout::message(words, row) { p.notice { (layout::icon(layout::WARNING)) (layout::prose(&message)) } }
        (forms(words, known, rights))
        (runs(words, &known.runs))
        @if !known.hand_outs.is_empty() {
            (draw::block("hand-outs-title", words.t("Hand-outs and returns"), "", &html! {
                (history_table(words, &known.hand_outs))
                p { a href={ "/api/v1/assignments.csv?device=" (row.device) } download="hand-outs.csv" { "CSV" } }
            }))
        }
        (variable_rows(words, &row.serial, &known.variables))
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

/// That it belongs to another school, and what that means.
fn visiting(words: Words, row: &DeviceRow) -> Markup {
    let site = layout::or_dash(&row.site_name);
    html! {
        p.notice {
            (words.fill("It belongs to {site} and checked in at your school. You can look at it and report it stolen; its own school or an administrator does the rest.", &[("site", &site)]))
        }
    }
}

/// That it is retired or stolen, since when, why, and who said so.
fn out_of_use(words: Words, out: &OutOfUse) -> Markup {
    let word = match out.state {
        AssetState::Stolen => words.t("Stolen"),
        AssetState::Retired | AssetState::InUse => words.t("Retired"),
    };
    html! {
        p.notice {
            (layout::icon(layout::WARNING)) strong { (word) } " " (words.time(out.at_ms)) " (" (out.by) ")"
            @if !out.reason.is_empty() { ": " (out.reason) }
        }
    }
}

/// What can be done about the asset. Whatever is left out of the first form stays as it is.
fn forms(words: Words, known: &Known, rights: Rights) -> Markup {
    let row = &known.row;
    let api = |what: &str| format!("POST /api/v1/devices/{}/{what}", row.device);
    let is_in_use = row.out_of_use.is_none();
    let assigned = row.assigned_name.as_deref().unwrap_or_default();
    html! {
        @if rights.change {
            details { summary { (words.t("Correct the asset")) }
                form.stacked.card data-api=(api("asset")) data-done=(words.t("Stored.")) {
                    label for="site" { (words.t("Site")) }
                    select #site name="site" data-changed data-empty="send" {
                        @for site in &known.sites {
                            option value=(site.code) selected[site.code == row.site] { (site.code) " " (site.name) }
                        }
                    }
                    label for="class" { (words.t("Class")) }
                    input #class name="class" value=(row.class) maxlength="128" data-changed data-empty="send" autocomplete="off";
                    label for="asset-tag" { (words.t("Asset tag")) }
                    input #asset-tag name="asset-tag" value=(row.asset_tag) maxlength="128" data-changed data-empty="send" autocomplete="off";
                    label for="name" { (words.t("Name from the next run on")) }
                    input #name name="name" value=(assigned) maxlength="15" data-changed data-empty="send" autocomplete="off";
                    div.buttons { button.primary { (words.t("Store")) } }
                }
            }
        }
        @if is_in_use && !known.collections.is_empty() { (put_in(words, known)) }
        @if !known.cancellable.is_empty() { (cancel(words, known)) }
        @if rights.report_stolen && row.out_of_use.as_ref().is_none_or(|out| out.state != AssetState::Stolen) {
            (becomes(words, &api("report-stolen"), (words.t("Report it stolen"), "stolen-reason"), true))
        }
        @if rights.change && is_in_use { (becomes(words, &api("retire"), (words.t("Retire it"), "retired-reason"), false)) }
        @if rights.change && !is_in_use { (becomes(words, &api("restore"), (words.t("Take it back into use"), "restored-reason"), false)) }
    }
}

/// What is done with the machine and one of several things, which its page offers.
struct Choice<'c> {
    title: &'c str,
    api: &'c str,
    /// The field that takes the machine.
    takes: &'c str,
    /// The field that takes the other thing, as it stands in `api`, and what it is called.
    of: (&'c str, &'c str),
    options: Vec<(&'c str, &'c str)>,
    button: Markup,
}

fn choose(words: Words, device: DeviceId, choice: &Choice<'_>) -> Markup {
    let (name, label) = choice.of;
    html! {
        details { summary { (choice.title) }
            form.stacked.card data-api=(choice.api) data-done=(words.t("Stored.")) {
                input type="hidden" name=(choice.takes) data-type="each" value=(device);
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    @for (value, about) in &choice.options { option value=(value) { (value) " " (about) } }
                }
                div.buttons { (choice.button) }
            }
        }
    }
}

/// That a deployment leaves this machine alone; it is taken back at the head of the page.
fn cancel(words: Words, known: &Known) -> Markup {
    let question = words.t("Cancel it for this machine? A run that goes on is stopped.");
    let choice = Choice {
        title: words.t("Have a deployment leave it alone"),
        api: "POST /api/v1/deployments/{deployment}/cancel",
        takes: "devices",
        of: ("deployment", words.t("Deployment")),
        options: known
            .cancellable
            .iter()
            .map(|name| (name.as_str(), ""))
            .collect(),
        button: html! { button.danger data-confirm=(question) { (words.t("Leave it alone")) } },
    };
    choose(words, known.row.device, &choice)
}

/// What is required of a collection begins on the machine by itself.
fn put_in(words: Words, known: &Known) -> Markup {
    let is_in = |collection: &&CollectionRow| known.row.collections.contains(&collection.name);
    let others = known.collections.iter().filter(|one| !is_in(one));
    let question = words.t(
        "Put it in? Its required deployments begin on this machine, and may overwrite its disk.",
    );
    let choice = Choice {
        title: words.t("Put it into a collection"),
        api: "POST /api/v1/collections/{collection}/members",
        takes: "add",
        of: ("collection", words.t("Collection")),
        options: others
            .map(|one| (one.name.as_str(), one.title.as_str()))
            .collect(),
        button: html! { button.primary data-confirm=(question) { (words.t("Put in")) } },
    };
    choose(words, known.row.device, &choice)
}

fn becomes(words: Words, api: &str, (title, id): (&str, &str), needs_reason: bool) -> Markup {
    html! {
        details { summary { (title) }
            form.stacked.card data-api=(api) data-done=(words.t("Stored.")) {
                label for=(id) { (words.t("Why")) }
                input id=(id) name="reason" maxlength="200" required[needs_reason] autocomplete="off";
                div.buttons { button.danger[needs_reason] { (title) } }
            }
        }
    }
}

/// A value as imported, and beside it what the machine says if that is something else.
fn both(words: Words, imported: &str, seen: Option<&str>) -> Markup {
    let seen = seen.filter(|seen| !seen.is_empty() && !seen.eq_ignore_ascii_case(imported));
    html! {
        @match seen {
            Some(seen) if imported.is_empty() => (seen),
            Some(seen) => { (imported) " " span.elsewhere { (words.fill(en("the machine says {value}"), &[("value", &seen)])) } },
            None => (layout::or_dash(imported)),
        }
    }
}

fn facts(words: Words, known: &Known) -> Markup {
    let (row, asset) = (&known.row, &known.asset);
    let text = |text: &str| html! { (layout::or_dash(text)) };
    let seen = row.last_seen_at_ms.map(|at_ms| words.time(at_ms));
    let said = asset.seen.as_ref();
    let name = row.name.as_deref().unwrap_or_default();
    let elsewhere = row.seen_site.as_deref().filter(|seen| *seen != row.site);
    let macs = said.map(|seen| seen.macs.join(", ")).unwrap_or_default();
    let evidence = said
        .map(|seen| words.say_all(&seen.said))
        .unwrap_or_default();
    let address = said.map_or("", |seen| seen.address.as_str());
    let mut facts = vec![
        (
            words.t("Name"),
            html! {
                (layout::or_dash(name))
                @if let Some(assigned) = row.assigned_name.as_deref().filter(|assigned| !assigned.eq_ignore_ascii_case(name)) {
                    " " span.muted { (words.fill(en("{name} from the next run on"), &[("name", &assigned)])) }
                }
            },
        ),
        (
            words.t("Serial number"),
            html! { span.mono { (both(words, &row.serial, said.map(|seen| seen.serial.as_str()))) } },
        ),
        (
            words.t("Asset tag"),
            both(
                words,
                &row.asset_tag,
                said.map(|seen| seen.asset_tag.as_str()),
            ),
        ),
        (
            words.t("UUID"),
            html! { code { (both(words, &asset.uuid, said.map(|seen| seen.uuid.as_str()))) } },
        ),
        (
            words.t("Model"),
            html! { (row.model.vendor) " " (both(words, &asset.model.product, Some(&row.model.product))) },
        ),
        (
            words.t("SKU"),
            both(words, &asset.model.sku, Some(&row.model.sku)),
        ),
        (
            words.t("Site"),
            html! {
                (layout::or_dash(&row.site_name)) " " span.muted { (row.site) }
                @if let Some(site) = elsewhere { " " span.elsewhere { (words.fill(en("seen at {site}"), &[("site", &site)])) } }
            },
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
        (
            words.t("Staged"),
            html! {
                (layout::or_dash(row.bundle.as_deref().unwrap_or_default()))
                @if let Some(key) = &row.retired_key {
                    span.sub { (words.fill("⚠ signed with the key {key}, which is retired", &[("key", key)])) }
                }
            },
        ),
        (
            words.t("Boot image"),
            text(row.boot_image.as_deref().unwrap_or_default()),
        ),
        (words.t("MAC addresses"), text(&macs)),
        (words.t("Asked from"), text(address)),
        (
            words.t("Key begins with"),
            html! { code { (layout::or_dash(asset.key.as_deref().unwrap_or_default())) } },
        ),
        (words.t("Key is kept"), kept(words, row.key_protection)),
        (words.t("Evidence"), text(&evidence)),
    ];
    if let Some(holder) = known
        .hand_outs
        .iter()
        .find(|one| one.returned_at_ms.is_none())
    {
        facts.push((words.t("Pupil"), text(&holder.name)));
    }
    // What files said beyond the columns that every asset has, under the names that they have in collections' rules.
    let fields = asset.fields.iter();
    facts.extend(fields.map(|(name, value)| (name.as_str(), text(value))));
    draw::facts(&facts)
}

/// Where the key lies, and what that is worth.
fn kept(words: Words, protection: Option<KeyProtection>) -> Markup {
    let (place, worth) = match protection {
        Some(KeyProtection::Tpm) => (
            en("in the machine's TPM"),
            en("by its own account; a copy of its disk is of no use elsewhere"),
        ),
        Some(KeyProtection::Software) => (
            en("in a file on its disk"),
            en("weaker: whoever copies the disk can pretend to be this machine"),
        ),
        None => return html! { (layout::or_dash("")) },
    };
    html! { (words.t(place)) span.sub { (words.t(worth)) } }
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
        html! {
            (draw::table(words.t("Runs"), &columns, &[5, 6], &rows))
            @if let Some(run) = runs.first() {
                p { a href={ "/runs?device=" (encode(&run.serial)) } { (words.t("All its runs, with filters and CSV")) } }
            }
        }
    };
    draw::block(
        "runs-title",
        words.t("Runs"),
        &words.number(runs.len() as u64),
        &content,
    )
}

fn variable_rows(words: Words, serial: &str, variables: &[EffectiveVariable]) -> Markup {
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
                    (super::variables::origin(words, &variable.origin))
                }
            }
        })
        .collect();
    let columns = [words.t("Variable"), words.t("Value"), words.t("From")];
    let table = draw::table(words.t("Variables"), &columns, &[], &rows);
    let note = words.number(variables.len() as u64);
    let own = super::variables::link(words, VariableScope::Device, serial);
    let content = html! { (table) p.small { (words.t("Set for this machine alone:")) " " (own) } };
    draw::block("variables-title", words.t("Variables"), &note, &content)
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
                    (only_without_secure_boot(words, receipt))
                }
                td {
                    @match (&receipt.prestage, receipt.prestage_version) {
                        (Some(name), Some(version)) => { (name) "@" (version) },
                        _ => "—",
                    }
                }
                td.number { (format::clock(receipt.seconds)) }
                td { (remark(receipt)) }
            }
        })
        .collect();
    let columns = [
        words.t("Received"),
        words.t("Result"),
        words.t("Prestage"),
        words.t("Took"),
        words.t("Remark"),
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
        let asset = AssetDetail {
            device: row.clone(),
            imported_at_ms: Some(1),
            uuid: "4c4c4544".into(),
            model: row.model.clone(),
            fields: [("order-number".to_owned(), "<b>4711".to_owned())].into(),
            key: Some("abcd1234".into()),
            seen: Some(wire::assets::AssetSeen {
                at_ms: 1,
                address: "10.17.3.4".into(),
                serial: row.serial.clone(),
                asset_tag: "OTHER-TAG".into(),
                uuid: "4C4C4544".into(),
                model: row.model.clone(),
                macs: vec!["52:54:00:00:00:01".into()],
                evidence: vec!["serial number is the same (+3)".into()],
                said: vec![wire::reasons::Evidence::SerialPlaceholder],
            }),
        };
        let mut known = Known {
            runs: vec![run.clone()],
            row,
            asset,
            sites: Vec::new(),
            receipts: Vec::new(),
            collections: Vec::new(),
            variables: Vec::new(),
            hand_outs: Vec::new(),
            startable: Vec::new(),
            cancelled: Vec::new(),
            cancellable: Vec::new(),
        };
        let everything = Rights {
            change: true,
            report_stolen: true,
            is_own: true,
        };
        let nothing = Rights {
            change: false,
            report_stolen: false,
            is_own: true,
        };
        let html = page(Words::ENGLISH, &known, everything).into_string();
        assert!(html.contains(&format!("/runs/{}", run.run)) && html.contains("reset-key"));
        for told in [
            "&lt;b&gt;4711",
            "the machine says OTHER-TAG",
            "10.17.3.4",
            "/retire",
            "/report-stolen",
        ] {
            assert!(html.contains(told), "{told}");
        }
        for (protection, told) in [
            (KeyProtection::Tpm, "by its own account"),
            (KeyProtection::Software, "whoever copies the disk"),
        ] {
            assert!(
                kept(Words::ENGLISH, Some(protection))
                    .into_string()
                    .contains(told)
            );
        }
        // A UUID in other letters is the same one.
        assert_eq!(html.matches("the machine says").count(), 1);
        assert!(!html.contains("/restore"));
        let html = page(Words::ENGLISH, &known, nothing).into_string();
        for forbidden in ["reset-key", "/retire", "/report-stolen", "/asset\""] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        known.row.out_of_use = Some(OutOfUse {
            state: AssetState::Stolen,
            reason: "<i>bus".into(),
            by: "kari".into(),
            at_ms: 1,
        });
        let html = page(Words::ENGLISH, &known, everything).into_string();
        assert!(html.contains("/restore") && html.contains("&lt;i&gt;bus"));
        assert!(!html.contains("/report-stolen") && !html.contains("/retire"));
        known.startable = ["check", "wipe"]
            .map(|name| Startable {
                name: name.parse().unwrap(),
                confirm: (name == "wipe").then(|| "wipe 1".to_owned()),
            })
            .to_vec();
        let html = page(Words::ENGLISH, &known, nothing).into_string();
        assert!(html.contains("POST /api/v1/deployments/check/start"));
        assert_eq!(html.matches("data-confirm-type=\"wipe 1\"").count(), 1);
        known.cancelled = vec![known.startable.remove(1)];
        known.row.out_of_use = None;
        known.collections = ["autumn-2026", "spare"]
            .map(|name| CollectionRow {
                name: name.parse().unwrap(),
                title: sample::HOSTILE.into(),
                members: 0,
            })
            .to_vec();
        let html = page(Words::ENGLISH, &known, nothing).into_string();
        assert!(html.contains("<option value=\"spare\">"));
        assert!(
            !html.contains("<option value=\"autumn-2026\">"),
            "it is in there"
        );
        let html = page(Words::ENGLISH, &known, nothing).into_string();
        assert!(html.contains("POST /api/v1/deployments/wipe/uncancel") && html.contains("wipe 1"));
        known.row = sample::hostile_device();
        sample::assert_harmless(&page(Words::BOKMAL, &known, everything).into_string());
    }
}
