//! Quarantine: machines that are nobody yet, what speaks for which asset, and what to do about one or many of them.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde_json::{Value, json};
use wire::quarantine::{Candidate, Decision, Pending, QuarantineReason, QuarantineRow};
use wire::sites::SiteRow;

use super::filter::encode;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::error::Failure;
use crate::fleet::quarantine::{self, Wanted};
use crate::state::AppState;

const DECIDE: &str = "POST /api/v1/quarantine/decide";
/// The form that decides about all machines that are ticked.
const BULK: &str = "bulk";

/// `GET /quarantine`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Failure> {
    let mut rows = quarantine::all(&state, &visitor.user).await?;
    let anybody = !rows.is_empty();
    rows.retain(|row| wanted.matches(row));
    let sites = state.site_rows(&visitor.user.reach).await?;
    let chosen = anybody.then_some(wanted.site.as_str());
    let content = page(visitor.words, &rows, &sites, chosen);
    Ok(visitor.page(visitor.words.t("Quarantine"), None, &content))
}

/// `chosen` is the site whose machines are shown, empty for all; none if nobody waits anywhere.
fn page(words: Words, rows: &[QuarantineRow], sites: &[SiteRow], chosen: Option<&str>) -> Markup {
    let about = words.t("machines that asked, and aren't exactly one asset");
    html! {
        (draw::head(&[], words.t("Quarantine"), about, &html! {}))
        @if let Some(chosen) = chosen { (of_site(words, sites, chosen)) }
        @if rows.is_empty() && chosen.is_some() {
            p.muted { (words.t("Nobody waits who asked from there.")) }
        } @else if rows.is_empty() {
            (draw::empty(words.t("Nobody waits here"), words.t("A machine that no file names, or whose names fit two assets, comes here when it asks for the first time.")))
        } @else {
            (bulk(words, sites))
            @for row in rows { (machine(words, row)) }
        }
    }
}

/// Which school's machines are shown.
fn of_site(words: Words, sites: &[SiteRow], chosen: &str) -> Markup {
    html! {
        form.filters method="get" action="/quarantine" {
            label {
                span.hidden { (words.t("Asked from")) }
                select name="site" {
                    option value="" { (words.t("From everywhere")) }
                    @for site in sites {
                        option value=(site.code) selected[site.code == chosen] { (site.code) " " (site.name) }
                    }
                }
            }
            button type="submit" { (words.t("Apply")) }
        }
    }
}

/// Where a machine asked from: the school if its network is known, and the address.
fn place(words: Words, row: &QuarantineRow) -> Markup {
    html! {
        @match row.seen_site.as_str() {
            "" => span.muted { (words.t("no known network")) },
            site => a href={ "/sites/" (encode(site)) } { (site) },
        }
        @if !row.address.is_empty() { " " code { (row.address) } }
    }
}

/// One decision about all that are ticked; the ticks stand beside the machines.
fn bulk(words: Words, sites: &[SiteRow]) -> Markup {
    html! {
        form.card.stacked #(BULK) data-api=(DECIDE) data-done=(words.t("Decided. It takes effect when the machine asks again.")) {
            label for="what" { (words.t("All that are ticked")) }
            select #what name="decision.what" {
                option value="is-asset" { (words.t("are the asset that fits best")) }
                option value="new-asset" { (words.t("are new assets")) }
                option value="replace-key" { (words.t("are the asset that fits best, with another disk or mainboard")) }
                option value="reject" { (words.t("stay out")) }
            }
            label for="site" { (words.t("Site of new assets")) }
            select #site name="decision.site" {
                option value="" { (words.t("not known yet")) }
                @for site in sites { option value=(site.code) { (site.code) " " (site.name) } }
            }
            label for="reason" { (words.t("Why they stay out")) }
            input #reason name="decision.reason" maxlength="200";
            div.buttons {
                button.primary data-confirm=(words.t("Decide about all machines that are ticked?")) { (words.t("Decide")) }
            }
        }
    }
}

fn machine(words: Words, row: &QuarantineRow) -> Markup {
    let title = format!("{} {}", row.vendor, row.product);
    let id = format!("machine-{}", row.machine);
    html! {
        section.card.quarantined aria-labelledby=(id) {
            div.headline {
                label.check {
                    input type="checkbox" form=(BULK) name="machines" data-type="each" value=(row.machine)
                        aria-label=(words.fill(en("Tick {machine}"), &[("machine", &layout::or_dash(&row.serial))]));
                }
                h2 id=(id) { (layout::or_dash(&row.serial)) }
                span.muted { (layout::or_dash(title.trim())) }
                span.chip.s-quarantined { (words.t(reason_word(row.reason))) }
            }
            @if let Some(why) = &row.said { p { (layout::prose(&words.say(why))) } }
            (draw::facts(&[
                (words.t("Asset tag"), html! { (layout::or_dash(&row.asset_tag)) }),
                (words.t("UUID"), html! { code { (layout::or_dash(&row.uuid)) } }),
                (words.t("MAC addresses"), html! { (layout::or_dash(&row.macs.join(", "))) }),
                (words.t("Key begins with"), html! { code { (row.key) } }),
                (words.t("Asked from"), place(words, row)),
                (words.t("First asked"), words.time(row.first_seen_at_ms)),
                (words.t("Last asked"), words.time(row.last_seen_at_ms)),
                (words.t("Evidence"), html! { (layout::or_dash(&words.say_all(&row.evidence_said))) }),
            ]))
            @if let Some(pending) = &row.decision {
                (decided(words, row, pending))
            } @else {
                (candidates(words, row))
                div.buttons {
                    // Two assets never have one serial number.
                    @if !row.candidates.iter().any(|candidate| candidate.serial == row.serial) {
                        (decide(row, &json!({ "what": "new-asset" }), html! { (words.t("New asset")) }, words.t("Take this machine in as a new asset?"), false))
                    }
                    (decide(row, &json!({ "what": "reject" }), html! { (words.t("Stays out")) }, words.t("Keep this machine out?"), true))
                }
            }
        }
    }
}

/// Assets that it may be, each with a button that says so.
fn candidates(words: Words, row: &QuarantineRow) -> Markup {
    if row.candidates.is_empty() {
        return html! { p.muted { (words.t("No asset has any of its names.")) } };
    }
    let lines: Vec<Markup> = row
        .candidates
        .iter()
        .map(|candidate| {
            html! {
                th scope="row" { a href=(layout::device_address(&candidate.serial)) { (candidate.serial) } }
                td { (layout::or_dash(&candidate.asset_tag)) }
                td { (layout::or_dash(&candidate.site)) }
                td.number { (words.number(candidate.score.into())) }
                td.value { (layout::or_dash(&words.say_all(&candidate.said))) }
                td { (is_candidate(words, row, candidate)) }
            }
        })
        .collect();
    let columns = [
        words.t("Asset"),
        words.t("Asset tag"),
        words.t("Site"),
        words.t("Points"),
        words.t("Evidence"),
        words.t("Action"),
    ];
    draw::table(words.t("Assets that it may be"), &columns, &[3], &lines)
}

fn is_candidate(words: Words, row: &QuarantineRow, candidate: &Candidate) -> Markup {
    let asset = &candidate.device;
    if candidate.is_bound {
        let question = words.fill(
            en("Replace the key of {serial}? The machine that had it comes into quarantine."),
            &[("serial", &candidate.serial)],
        );
        let decision = json!({ "what": "replace-key", "asset": asset });
        return decide(
            row,
            &decision,
            html! { (words.t("Replace its key")) },
            &question,
            true,
        );
    }
    let question = words.fill(
        en("Is this machine {serial}?"),
        &[("serial", &candidate.serial)],
    );
    let decision = json!({ "what": "is-asset", "asset": asset });
    decide(
        row,
        &decision,
        html! { (words.t("It is this one")) },
        &question,
        false,
    )
}

fn decide(
    row: &QuarantineRow,
    decision: &Value,
    name: Markup,
    question: &str,
    is_danger: bool,
) -> Markup {
    let body = json!({ "machines": [row.machine], "decision": decision });
    html! {
        button type="button" .danger[is_danger] data-api=(DECIDE) data-body=(body.to_string()) data-confirm=(question) { (name) }
    }
}

fn decided(words: Words, row: &QuarantineRow, pending: &Pending) -> Markup {
    let device = pending.device.as_deref().unwrap_or_default();
    let serial = row
        .candidates
        .iter()
        .find(|candidate| candidate.device == device)
        .map_or(device, |candidate| candidate.serial.as_str());
    let what = match &pending.decision {
        Decision::IsAsset { .. } => words.fill(en("It is {serial}."), &[("serial", &serial)]),
        Decision::NewAsset { .. } => words.t("It is a new asset.").to_owned(),
        Decision::ReplaceKey { .. } => words.fill(
            en("It is {serial}, whose key is replaced."),
            &[("serial", &serial)],
        ),
        Decision::Reject { reason } if reason.is_empty() => words.t("It stays out.").to_owned(),
        Decision::Reject { reason } => {
            words.fill(en("It stays out: {reason}"), &[("reason", reason)])
        }
    };
    html! {
        p { strong { (what) } " " span.muted {
            (words.fill(en("Decided by {who}; it takes effect when the machine asks again."), &[("who", &pending.by)]))
            " " (words.time(pending.at_ms))
        } }
        div.buttons {
            button type="button" data-api={ "POST /api/v1/quarantine/" (encode(&row.machine)) "/undo" } { (words.t("Undo")) }
        }
    }
}

/// What stands for a reason, to be translated.
const fn reason_word(reason: QuarantineReason) -> &'static str {
    match reason {
        QuarantineReason::Unknown => en("No asset has its names"),
        QuarantineReason::TwoRecords => en("Two assets fit equally well"),
        QuarantineReason::SecondClaimant => en("Another machine has these names"),
        QuarantineReason::MovedKey => en("Its key belongs to another asset"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, page};
    use wire::quarantine::{Candidate, Decision, Pending, QuarantineReason, QuarantineRow};
    use wire::reasons::{AsideReason, Evidence};

    fn row(is_bound: bool) -> QuarantineRow {
        QuarantineRow {
            machine: "0190f0f0-0000-7000-8000-000000000001".into(),
            key: "abcd1234".into(),
            reason: QuarantineReason::SecondClaimant,
            message: "another key is bound to PF3ABC12".into(),
            said: Some(AsideReason::SecondClaimant),
            evidence: vec![],
            evidence_said: vec![],
            vendor: "Acme".into(),
            product: "<script>alert(1)</script>".into(),
            serial: "PF3ABC12".into(),
            asset_tag: String::new(),
            uuid: String::new(),
            macs: vec![],
            first_seen_at_ms: 0,
            last_seen_at_ms: 0,
            address: "10.17.3.4".into(),
            seen_site: "BJO".into(),
            candidates: vec![Candidate {
                device: "0190f0f0-0000-7000-8000-000000000002".into(),
                serial: "PF3ABC12".into(),
                asset_tag: String::new(),
                site: "BJO".into(),
                score: 3,
                evidence: vec!["serial number PF3ABC12 is the same (+3)".into()],
                said: vec![Evidence::SerialSame {
                    serial: "PF3ABC12".into(),
                    points: 3,
                }],
                is_bound,
            }],
            decision: None,
        }
    }

    fn drawn(row: QuarantineRow) -> String {
        page(Words::ENGLISH, &[row], &[], Some("")).into_string()
    }

    #[test]
    fn an_asset_that_has_a_machine_already_can_only_have_its_key_replaced() {
        let replace = "&quot;what&quot;:&quot;replace-key&quot;";
        let is_asset = "&quot;what&quot;:&quot;is-asset&quot;";
        let (bound, free) = (drawn(row(true)), drawn(row(false)));
        assert!(bound.contains(replace) && !bound.contains(is_asset));
        assert!(free.contains(is_asset) && !free.contains(replace));
    }

    #[test]
    fn a_serial_number_that_an_asset_has_makes_no_new_asset() {
        let new = "&quot;what&quot;:&quot;new-asset&quot;";
        let other = QuarantineRow {
            serial: "PF3ABC13".into(),
            ..row(false)
        };
        assert!(!drawn(row(false)).contains(new));
        assert!(drawn(other).contains(new));
    }

    #[test]
    fn why_it_waits_is_said_in_the_visitor_s_language() {
        let text = page(Words::BOKMAL, &[row(false)], &[], Some("")).into_string();
        assert!(text.contains("en annen nøkkel er knyttet til"), "{text}");
        assert!(text.contains("serienummer PF3ABC12 er det samme (+3)"));
    }

    #[test]
    fn it_says_where_a_machine_asked_from() {
        let text = drawn(row(false));
        assert!(text.contains("/sites/BJO") && text.contains("10.17.3.4"));
        let unknown = QuarantineRow {
            seen_site: String::new(),
            ..row(false)
        };
        assert!(drawn(unknown).contains("no known network"));
    }

    #[test]
    fn what_a_machine_says_of_itself_stays_text() {
        assert!(!drawn(row(false)).contains("<script>"));
    }

    #[test]
    fn what_was_decided_can_only_be_taken_back() {
        let decision = Some(Pending {
            decision: Decision::Reject {
                reason: "stolen".into(),
            },
            device: None,
            by: "ingrid".into(),
            at_ms: 0,
        });
        let text = drawn(QuarantineRow {
            decision,
            ..row(false)
        });
        assert!(text.contains("stolen") && text.contains("/undo"));
        assert!(!text.contains("&quot;is-asset&quot;"));
    }
}
