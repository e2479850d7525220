//! One deployment, and the form in which one is made or changed, with what it would do.

use maud::{Markup, html};
use serde_json::json;
use wire::admin_api::{CollectionRow, Deployment, Purpose, SequenceRow};
use wire::deployments::{Approval, Awaited, DeploymentPreview, DeploymentStatus, WarrantsStand};
use wire::device_api::ApiError;
use wire::names::{DeploymentName, DeviceId};

use super::{Draft, table};
use crate::people::auth::User;
use crate::people::roles::May;
use crate::web::draw;
use crate::web::filter::encode;
use crate::web::format;
use crate::web::layout::{self, state_named};
use crate::web::words::{Words, en};

/// The page of a deployment. Its visitor may change it, or only its devices' runs.
pub(super) fn one(
    words: Words,
    deployment: &Deployment,
    status: &DeploymentStatus,
    user: &User,
) -> Markup {
    let (can_deploy, can_operate) = (user.may(May::Deploy), user.may(May::Operate));
    let api = |what: &str| {
        format!(
            "POST /api/v1/deployments/{}/{what}",
            encode(status.name.as_str())
        )
    };
    html! {
        (draw::head(&[("/deployments", words.t("Deployments"))], status.name.as_str(),
            if status.stopped { words.t("stopped") } else { words.t("active") }, &html! {
                @if can_deploy { a.button href=(change_address(status.name.as_str())) { (words.t("Change")) } }
            }))
        @if let Some(typed) = &status.confirm_cap {
            div.problem role="alert" { div {
                p { (words.fill("It would touch {n} machines and may touch {cap}: no further machine begins.",
                    &[("n", &status.reach), ("cap", &status.cap)])) }
                @if can_deploy {
                    button.danger data-api=(api("cap")) data-body=(json!({ "cap": status.reach, "confirm": typed }))
                        data-confirm=(words.t("May it touch that many machines?")) data-confirm-type=(typed) {
                        (words.t("Raise the cap"))
                    }
                }
            } }
        }
        @if let Some(approval) = &status.approval { (awaited(words, status, approval, user)) }
        (figures(words, deployment, status))
        @if let Some(stand) = status.warrants.filter(|stand| can_deploy && stand.wait > 0) { (unsigned(words, status, stand)) }
        div.buttons {
            @if can_deploy && !status.stopped {
                button.danger data-api=(api("stop")) data-body="{}"
                    data-confirm=(words.t("Stop it, and every machine that runs it, at once?")) { (words.t("Stop at once")) }
                button data-api=(api("stop")) data-body=(json!({ "let-running-finish": true }))
                    data-confirm=(words.t("Let running machines finish, and begin no further one?")) {
                    (words.t("Let running ones finish"))
                }
            }
            @if can_deploy && status.stopped && !status.awaits(Awaited::Resume) {
                button.primary data-api=(api("resume"))
                    data-body=(json!({ "confirm": status.confirm_resume.as_deref().unwrap_or_default() }))
                    data-confirm=[status.confirm_resume.is_some().then(|| words.t("It writes over disks. Let machines begin it and go on with it?"))]
                    data-confirm-type=[status.confirm_resume.as_deref()] { (words.t("Resume")) }
            }
            @if can_operate && !status.stopped && !status.failed.is_empty() {
                button data-api=(api("retry-failed")) { (words.t("Retry all that failed")) }
            }
        }
        (failed(words, status))
        @if !status.cancelled.is_empty() { (cancelled(words, status, can_operate)) }
    }
}

/// What is to be signed elsewhere before it writes over machines that were deployed, and how.
fn unsigned(words: Words, status: &DeploymentStatus, stand: WarrantsStand) -> Markup {
    let name = status.name.as_str();
    let path = format!("/api/v1/deployments/{}/warrants", encode(name));
    html! {
        section.card aria-labelledby="warrants-title" {
            h2 #warrants-title { (words.t("Waits for warrants")) }
            p { (words.fill(en("{n} machines were deployed before and have no warrant for this deployment; {m} have one. It doesn't begin on a machine whose boot image wants a warrant."),
                &[("n", &words.number(stand.wait.into())), ("m", &words.number(stand.ready.into()))])) }
            ol {
                li { a href=(path) download={ (name) ".request" } { (words.t("Fetch what is signed")) } " "
                    (words.t("and carry it to the computer with the key.")) }
                li { (words.t("Sign it there:")) " " code { "forestage warrant sign " (name) ".request --key KEY --output " (name) ".warrants" } }
                li { (words.t("Bring the warrants back.")) }
            }
            form.stacked data-api={ "PUT " (path) } data-done=(words.t("Handed in. If machines still wait, this page says how many.")) {
                label for="warrants" { (words.t("File with the warrants")) }
                input #warrants type="file" data-body required accept=".warrants,.json";
                div.buttons { button.primary { (words.t("Hand the warrants in")) } }
            }
        }
    }
}

/// What another administrator has to decide. Whoever asked can only take it back.
fn awaited(words: Words, status: &DeploymentStatus, approval: &Approval, user: &User) -> Markup {
    let api = |what: &str| {
        format!(
            "POST /api/v1/deployments/{}/{what}",
            encode(status.name.as_str())
        )
    };
    let what = match approval.what {
        Awaited::Resume => en("{who} asks that it begins, on up to {n} machines."),
        Awaited::RaiseCap => en("{who} asks that it may touch {n} machines."),
        Awaited::RetryFailed => en("{who} asks that the failed runs of {n} machines go on."),
    };
    let machines = words.number(approval.machines.into());
    let is_own = approval.asked_by == user.name;
    html! {
        section.card aria-labelledby="approval-title" {
            h2 #approval-title { (words.t("Awaits a second administrator")) }
            p {
                (words.fill(what, &[("who", &approval.asked_by), ("n", &machines)])) " "
                span.muted { (words.time(approval.asked_at_ms)) }
            }
            p.muted { (words.t("It writes over disks. Nothing happens until another administrator than the one who asked approves it.")) }
            @if is_own || user.may(May::Deploy) {
                div.buttons {
                    @if !is_own {
                        button.danger data-api=(api("approve")) data-body=(json!({ "confirm": approval.confirm }))
                            data-confirm=(words.t("Approve it? Disks are written over.")) data-confirm-type=(approval.confirm)
                            data-done=(words.t("Approved.")) { (words.t("Approve")) }
                    }
                    button data-api=(api("decline")) data-body="{}" data-done=(words.t("Stored."))
                        data-confirm=(if is_own { words.t("Take back what you asked?") } else { words.t("Decline it?") }) {
                        (if is_own { words.t("Take it back") } else { words.t("Decline") })
                    }
                }
            }
        }
    }
}

/// The deployments about which somebody has to decide.
pub(in crate::web) fn all_awaited(words: Words, names: &[DeploymentName]) -> Markup {
    html! {
        @if !names.is_empty() {
            p.notice {
                (words.t("Awaits a second administrator")) ": "
                @for (index, name) in names.iter().enumerate() {
                    @if index > 0 { ", " }
                    a href={ "/deployments/" (encode(name.as_str())) } { (name) }
                }
            }
        }
    }
}

fn change_address(name: &str) -> String {
    format!("/deployments/{}/change", encode(name))
}

fn figures(words: Words, deployment: &Deployment, status: &DeploymentStatus) -> Markup {
    let purpose = match deployment.purpose {
        Purpose::Required => words.t("required"),
        Purpose::Available => words.t("available"),
    };
    html! {
        dl.identity.plain {
            div { dt { (words.t("Collection")) } dd { a href={ "/collections/" (encode(status.collection.as_str())) } { (status.collection) } } }
            div { dt { (words.t("Sequence")) } dd { (status.sequence) } }
            div { dt { (words.t("Purpose")) } dd { (purpose) } }
            div { dt { (words.t("Expected duration")) } dd { (expected(words, deployment.expected_seconds)) } }
            div { dt { (words.t("Touched")) } dd { (status.touched) " / " (status.reach) " (" (words.t("Cap")) " " (status.cap) ")" } }
            div { dt { (words.t("Due")) } dd { (status.due) } }
            div { dt { (words.t("Waiting for a place")) } dd { (status.waiting) } }
            @if let Some(stand) = &status.warrants {
                div { dt { (words.t("With a warrant")) } dd { (words.number(stand.ready.into())) " / " (words.number(u64::from(stand.ready) + u64::from(stand.wait))) } }
            }
            @if let Some(window) = &deployment.window {
                @if let Some(start) = window.starts_at_ms { div { dt { (words.t("Not before")) } dd { (words.time(start)) } } }
                @if let Some(end) = window.ends_at_ms { div { dt { (words.t("Not from then on")) } dd { (words.time(end)) } } }
                @if let Some(daily) = window.daily { div { dt { (words.t("Daily hours")) } dd { (daily) } } }
            }
            @for (state, number) in &status.states { div { dt { (state_named(words, state)) } dd {
                a href={ "/?deployment=" (encode(status.name.as_str())) "&state=" (encode(state)) } { (number) }
            } } }
        }
        @if !deployment.leave_collection_on_success {
            p.problem { (words.t("Machines stay in the collection when they are done: what is deployed to it next reaches them, too.")) }
        }
    }
}

fn expected(words: Words, seconds: u64) -> String {
    match seconds {
        0 => words
            .t("as the sites say, or as earlier runs took")
            .to_owned(),
        seconds => format::clock(seconds),
    }
}

fn failed(words: Words, status: &DeploymentStatus) -> Markup {
    let rows: Vec<Markup> = status
        .failed
        .iter()
        .map(|run| {
            html! {
                th scope="row" { a href={ "/runs/" (run.run) } { (run.serial) } }
                td { code { (run.step.as_deref().unwrap_or("—")) } }
                td { (run.error) }
            }
        })
        .collect();
    let columns = [en("Serial number"), en("Step"), en("Why")];
    let title = words.t("Failed");
    let table = table(words, title, &columns, &[], &rows, en("None."));
    draw::block("failed-title", title, "", &table)
}

/// Machines that it leaves alone, and how that is taken back.
fn cancelled(words: Words, status: &DeploymentStatus, can_operate: bool) -> Markup {
    let name = &status.name;
    let confirm = status.wipes.then(|| format!("{name} 1"));
    let rows: Vec<Markup> = status
        .cancelled
        .iter()
        .map(|one| {
            html! {
                th scope="row" { a href={ "/devices/" (encode(&one.serial)) } { (one.serial) } }
                td { (one.who) }
                td { (words.time(one.at_ms)) }
                td { @if can_operate { (uncancel(words, name.as_str(), one.device, confirm.as_deref(), words.t("Let it begin"))) } }
            }
        })
        .collect();
    let columns = [
        en("Serial number"),
        en("Cancelled by"),
        en("Since"),
        en("Action"),
    ];
    let title = words.t("Left alone");
    draw::block(
        "cancelled-title",
        title,
        "",
        &table(words, title, &columns, &[], &rows, en("None.")),
    )
}

/// The button that lets a deployment begin on a device for which it is cancelled.
pub(crate) fn uncancel(
    words: Words,
    name: &str,
    device: DeviceId,
    confirm: Option<&str>,
    text: &str,
) -> Markup {
    let body = json!({ "devices": [device], "confirm": confirm.unwrap_or_default() });
    html! {
        button.danger[confirm.is_some()] type="button" data-api={ "POST /api/v1/deployments/" (encode(name)) "/uncancel" }
            data-body=(body) data-confirm-type=[confirm]
            data-confirm=(words.fill(en("Let {deployment} begin on this machine again?"), &[("deployment", &name)])) {
            (text)
        }
    }
}

/// What was previewed, or what is wrong with the form.
type Previewed = Result<(Deployment, DeploymentPreview), ApiError>;

/// What the form of a deployment shows.
pub(super) struct Form<'f> {
    pub(super) draft: &'f Draft,
    /// It exists and is changed.
    pub(super) changes: bool,
    pub(super) collections: &'f [CollectionRow],
    pub(super) sequences: &'f [SequenceRow],
    pub(super) preview: Option<&'f Previewed>,
}

/// The form in which a deployment is made or changed, with what it would do once it is filled in.
pub(super) fn form(words: Words, form: &Form<'_>) -> Markup {
    let &Form {
        draft,
        changes,
        collections,
        sequences,
        preview,
    } = form;
    let here = format!("/deployments/{}", encode(&draft.name));
    let action = match changes {
        true => change_address(&draft.name),
        false => "/deployments/new".to_owned(),
    };
    html! {
        @if changes {
            (draw::head(&[("/deployments", words.t("Deployments")), (here.as_str(), draft.name.as_str())],
                words.t("Change the deployment"), "", &html! {}))
        } @else {
            (draw::head(&[("/deployments", words.t("Deployments"))], words.t("New deployment"), "", &html! {}))
        }
        form.stacked.card method="get" action=(action) {
            @if changes { input type="hidden" name="name" value=(draft.name); }
            @else { (field(words, "name", en("Name"), &draft.name, "autumn-2026")) }
            label for="collection" { (words.t("Collection")) }
            select #collection name="collection" required {
                @for row in collections {
                    option value=(row.name) selected[row.name.as_str() == draft.collection] { (row.name) " (" (row.members) ")" }
                }
            }
            label for="sequence" { (words.t("Sequence")) }
            select #sequence name="sequence" required {
                @for row in sequences {
                    option value=(row.name) selected[row.name.as_str() == draft.sequence] { (row.name) }
                }
            }
            label for="purpose" { (words.t("Purpose")) }
            select #purpose name="purpose" {
                option value="required" { (words.t("required: machines begin by themselves")) }
                option value="available" selected[draft.purpose == "available"] { (words.t("available: someone starts it for a machine")) }
            }
            (field(words, "cap", en("How many machines it may ever touch"), &draft.cap, "40"))
            (field(words, "expected-minutes", en("Expected minutes, such as 16 or 1:30; empty: as the sites say, or as earlier runs took"), &draft.expected_minutes, "15"))
            (field(words, "slots", en("How many at a time, 0 for no limit"), &draft.slots, "0"))
            (field(words, "starts", en("Not before (date, time and distance from UTC)"), &draft.starts, "2026-08-17T07:00+02:00"))
            (field(words, "ends", en("Not from then on"), &draft.ends, "2026-08-22T07:00+02:00"))
            (field(words, "daily", en("Only in these hours, in the time zone of the site"), &draft.daily, "16:00-06:00"))
            label.check { input type="checkbox" name="stay" value="yes" checked[!draft.stay.is_empty()];
                (words.t("Machines stay in the collection when they are done (not recommended)")) }
            div.buttons { button { (words.t("Show what it would do")) } }
        }
        @match preview {
            None => {},
            Some(Err(error)) => div.problem role="alert" { div { (layout::refusal(words, error)) } },
            Some(Ok((deployment, preview))) => (would_do(words, deployment, preview, changes)),
        }
    }
}

fn field(words: Words, name: &str, label: &'static str, value: &str, example: &str) -> Markup {
    html! {
        label for=(name) { (words.t(label)) }
        input id=(name) name=(name) value=(value) placeholder=(example) autocomplete="off" required[name == "name" || name == "cap"];
    }
}

fn would_do(
    words: Words,
    deployment: &Deployment,
    preview: &DeploymentPreview,
    changes: bool,
) -> Markup {
    let page = format!("/deployments/{}", encode(deployment.name.as_str()));
    let (query, asked, does) = match changes {
        true => (
            "?change=true",
            words.t("Change this deployment?"),
            words.t("Change the deployment"),
        ),
        false => (
            "",
            words.t("Create this deployment?"),
            words.t("Create the deployment"),
        ),
    };
    let mut body = json!(deployment);
    if let (Some(typed), Some(fields)) = (&preview.confirm, body.as_object_mut()) {
        fields.insert("confirm".into(), json!(typed));
    }
    let models: Vec<Markup> = preview
        .models
        .iter()
        .map(|model| {
            html! {
                th scope="row" { (model.model) }
                td.number { (model.devices) }
                td { (if model.has_prestage { words.t("yes") } else { words.t("no") }) }
                td { (words.say_all(&model.said)) }
            }
        })
        .collect();
    let held: Vec<Markup> = preview
        .held
        .iter()
        .map(|held| html! { td.number { (held.devices) } td { (held.said.as_ref().map(|why| words.say(why)).unwrap_or_default()) } td { (held.serials.iter().take(5).cloned().collect::<Vec<_>>().join(", ")) } })
        .collect();
    html! {
        section.card {
            h2 { (words.fill("It would begin on {n} of {m} machines", &[("n", &preview.due), ("m", &preview.members)])) }
            @if preview.wipes { p { (words.t("It writes over disks:")) " " code { (preview.wiping_steps.join(", ")) } } }
            @if preview.second_person { p.notice { (words.t("Another administrator has to approve it before any machine begins.")) } }
            @if let Some(median) = preview.median_seconds {
                p { (words.t("Earlier runs took (median):")) " " (format::clock(median)) }
            }
            @if !preview.said.is_empty() { ul { @for warning in &preview.said { li { "⚠ " (words.say(warning)) } } } }
            (table(words, words.t("Models"), &[en("Model"), en("Devices"), en("Prestage"), en("Missing")], &[1], &models, en("The collection is empty.")))
            @if !held.is_empty() {
                h2 { (words.t("Held back")) }
                (table(words, words.t("Held back"), &[en("Devices"), en("Why"), en("Serial number")], &[0], &held, en("None.")))
            }
            button.danger data-api={ "PUT /api/v1" (page) (query) } data-body=(body) data-then=(page)
                data-confirm=(asked) data-confirm-type=[preview.confirm.as_deref()] { (does) }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::people::Role;

    use super::*;
    use crate::people::roles::Reach;

    #[test]
    fn whoever_asked_takes_it_back_and_another_administrator_decides() {
        let approval = Approval {
            what: Awaited::Resume,
            machines: 2500,
            asked_by: "<b>kari".into(),
            asked_at_ms: 1,
            confirm: "autumn 2500".into(),
        };
        let status: DeploymentStatus = serde_json::from_value(json!({
            "name": "autumn", "collection": "pupils", "sequence": "deploy", "stopped": true, "touched": 0, "reach": 2500,
            "cap": 2600, "asks-for-cap": false, "due": 2500, "waiting": 0,
        }))
        .unwrap();
        for (name, role, offered) in [
            ("<b>kari", Role::Admin, ["decline"].as_slice()),
            ("ola", Role::Admin, &["approve", "decline"]),
            ("<b>kari", Role::SchoolAdmin, &["decline"]),
            ("school", Role::SchoolAdmin, &[]),
            ("look", Role::Viewer, &[]),
        ] {
            let user = User {
                name: name.into(),
                role,
                reach: Reach::Everywhere,
                prestages: vec![],
                scopes: None,
            };
            let html = awaited(Words::BOKMAL, &status, &approval, &user).into_string();
            for what in ["approve", "decline"] {
                let path = format!("/api/v1/deployments/autumn/{what}");
                assert_eq!(
                    html.contains(&path),
                    offered.contains(&what),
                    "{name}: {what}"
                );
            }
            assert!(
                !html.contains("<b>kari") && html.contains("2\u{a0}500"),
                "{html}"
            );
        }
    }

    #[test]
    fn what_waits_for_warrants_says_how_many_and_what_to_do() {
        let deployment: Deployment = serde_json::from_value(json!({
            "name": "autumn", "collection": "pupils", "sequence": "deploy", "purpose": "required", "expected-seconds": 60,
            "cap": 10,
        }))
        .unwrap();
        let drawn = |role, warrants: serde_json::Value| {
            let user = User {
                name: "ola".into(),
                role,
                reach: Reach::Everywhere,
                prestages: vec![],
                scopes: None,
            };
            let status: DeploymentStatus = serde_json::from_value(json!({
                "name": "autumn", "collection": "pupils", "sequence": "deploy", "stopped": false, "touched": 0, "reach": 9,
                "cap": 10, "asks-for-cap": false, "due": 9, "waiting": 0, "warrants": warrants,
            }))
            .unwrap();
            one(Words::ENGLISH, &deployment, &status, &user).into_string()
        };
        let waits = json!({ "ready": 3, "wait": 1500 });
        let html = drawn(Role::Admin, waits.clone());
        assert!(html.contains("500 machines were deployed before"), "{html}");
        assert!(
            html.contains("PUT /api/v1/deployments/autumn/warrants"),
            "{html}"
        );
        for (role, warrants) in [
            (Role::Viewer, waits),
            (Role::Admin, json!({ "ready": 3, "wait": 0 })),
            (Role::Admin, serde_json::Value::Null),
        ] {
            assert!(!drawn(role, warrants).contains("/warrants"));
        }
    }

    #[test]
    fn a_stopped_deployment_is_resumed_unless_just_that_awaits() {
        let user = User {
            name: "ola".into(),
            role: Role::Admin,
            reach: Reach::Everywhere,
            prestages: vec![],
            scopes: None,
        };
        let deployment: Deployment = serde_json::from_value(json!({
            "name": "autumn", "collection": "pupils", "sequence": "deploy", "purpose": "required", "expected-seconds": 60,
            "cap": 10, "stopped": true,
        }))
        .unwrap();
        for (what, is_offered) in [
            (None, true),
            (Some(Awaited::RaiseCap), true),
            (Some(Awaited::RetryFailed), true),
            (Some(Awaited::Resume), false),
        ] {
            let mut status: DeploymentStatus = serde_json::from_value(json!({
                "name": "autumn", "collection": "pupils", "sequence": "deploy", "stopped": true, "touched": 0, "reach": 9,
                "cap": 10, "asks-for-cap": false, "due": 9, "waiting": 0,
            }))
            .unwrap();
            status.approval = what.map(|what| Approval {
                what,
                machines: 9,
                asked_by: "kari".into(),
                asked_at_ms: 1,
                confirm: "autumn 9".into(),
            });
            let html = one(Words::ENGLISH, &deployment, &status, &user).into_string();
            assert_eq!(html.contains("/autumn/resume"), is_offered, "{what:?}");
        }
    }
}
