//! The factory's receipts, and an order against them.

use maud::{Markup, html};
use wire::admin_api::ReceiptRow;
use wire::imports::ImportRow;
use wire::receipt::{Receipt, ReceiptResult};
use wire::reconciliation::{
    DIFFERING, ReconciledFilter, ReconciledRow, ReconciledState, Reconciliation,
};

use super::parts::{Kind, ROWS_OF_A_PAGE, kinds, notice, turn, with};
use crate::web::draw;
use crate::web::layout;
use crate::web::words::{Words, en};

/// Orders that are named; the imports page has all.
const ORDERS_SHOWN: usize = 10;

/// All receipts, newest first.
pub(super) fn all(
    words: Words,
    rows: &[ReceiptRow],
    orders: &[ImportRow],
    page: usize,
    may_send: bool,
) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .skip((page - 1).saturating_mul(ROWS_OF_A_PAGE))
        .take(ROWS_OF_A_PAGE)
        .map(|row| receipt(words, row))
        .collect();
    let columns = [
        words.t("Serial number"),
        words.t("Model"),
        words.t("Result"),
        words.t("Prestage"),
        words.t("Disk"),
        words.t("Received"),
        words.t("Remark"),
    ];
    html! {
        (draw::head(&[], words.t("Receipts"), words.t("what the factory's sticks say: claims, not proofs"), &hand_in(words, may_send)))
        @if !orders.is_empty() {
            section.card aria-labelledby="orders-title" {
                h2 #orders-title { (words.t("Compare an order with the receipts")) }
                ul.plain-list {
                    @for order in orders.iter().take(ORDERS_SHOWN) {
                        li { a href={ "/imports/" (order.import) "/receipts" } { (order.file) }
                            " " span.muted { (words.fill(en("import {n}"), &[("n", &order.import)])) ", "
                            (words.count((order.counts.new + order.counts.changed + order.counts.unchanged).into(), en("1 machine"), en("{n} machines"))) } }
                    }
                }
            }
        }
        @if rows.is_empty() {
            (draw::empty(words.t("No receipts yet"), words.t("Hand in the files of a boot medium, or let `forestage receipt import STICK` read them.")))
        } @else {
            (draw::table(words.t("Receipts"), &columns, &[], &lines))
            (turn(words, "/receipts", page, rows.len()))
        }
    }
}

/// The way to the page on which receipts are handed in.
fn hand_in(words: Words, may_send: bool) -> Markup {
    html! { @if may_send { a.button href="/receipts/import" { (words.t("Hand in receipts")) } } }
}

fn receipt(words: Words, row: &ReceiptRow) -> Markup {
    let receipt = &row.receipt;
    let prestage = match (&receipt.prestage, receipt.prestage_version) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        _ => String::new(),
    };
    html! {
        th scope="row" { @if row.device.is_some() { a.mono href=(layout::device_address(&receipt.serial)) { (receipt.serial) } }
            @else { span.mono { (layout::or_dash(&receipt.serial)) } } }
        td { (receipt.vendor) " " (receipt.product) }
        td { (result(words, receipt.result)) (only_without_secure_boot(words, receipt)) }
        td { (layout::or_dash(&prestage)) }
        td.mono { (layout::or_dash(&receipt.disk_serial)) }
        td { (words.time(row.received_at_ms)) }
        td.value { (layout::or_dash(&remark(receipt))) }
    }
}

/// What the firmware would not start, of a machine that is staged all the same.
fn refused(receipt: &Receipt) -> &[String] {
    match (&receipt.result, &receipt.secure_boot) {
        (ReceiptResult::Staged, Some(said)) => &said.refuses,
        _ => &[],
    }
}

/// Said of a staged machine that will not start once somebody switches Secure Boot on.
pub(in crate::web) fn only_without_secure_boot(words: Words, receipt: &Receipt) -> Markup {
    html! { @if !refused(receipt).is_empty() { span.sub { (words.t("starts only while Secure Boot is off")) } } }
}

/// Why it failed, or why it starts only without Secure Boot.
pub(in crate::web) fn remark(receipt: &Receipt) -> String {
    let refused = refused(receipt);
    if receipt.errors.is_empty() {
        refused.join("; ")
    } else {
        receipt.errors.join(": ")
    }
}

pub(super) fn result(words: Words, result: ReceiptResult) -> Markup {
    match result {
        ReceiptResult::Staged => {
            html! { span.chip.s-completed { (layout::icon(DONE)) (words.t("Staged")) } }
        }
        ReceiptResult::Failed => {
            html! { span.chip.s-failed { (layout::icon(CROSS)) (words.t("Failed")) } }
        }
    }
}

const DONE: &str = "M3 8.500 6.500 12 13 4.500";
const CROSS: &str = "M4 4l8 8M12 4l-8 8";

/// An order against the receipts.
pub(super) fn order(
    words: Words,
    answer: &Reconciliation,
    filter: ReconciledFilter,
    (oldest, page): (&str, usize),
    may_send: bool,
) -> Markup {
    let id = answer.import.unwrap_or_default();
    let file = answer.file.clone().unwrap_or_default();
    let number = words.fill(en("import {n}"), &[("n", &id)]);
    let sub = format!(
        "{number}, {}",
        words.count(
            answer.ordered.into(),
            en("1 machine ordered"),
            en("{n} machines ordered")
        )
    );
    let address = with(&format!("/imports/{id}/receipts"), &[("oldest", oldest)]);
    let lines: Vec<Markup> = answer.rows.iter().map(|row| machine(words, row)).collect();
    let columns = [
        words.t("Line"),
        words.t("Serial number"),
        words.t("Asset tag"),
        words.t("Ordered"),
        words.t("State"),
        words.t("The stick says"),
        words.t("Why"),
    ];
    let here = with(&address, &[("state", filter.word())]);
    let total = usize::try_from(answer.rows_total).unwrap_or(usize::MAX);
    html! {
        (draw::head(&[("/receipts", words.t("Receipts"))], &file, &sub,
            &html! { (downloads(words, id, filter, oldest)) (hand_in(words, may_send)) }))
        (notice(&html! { (words.t("This is what the sticks say. A receipt is a claim of the factory, not a proof, and changes no machine.")) }))
        @if answer.left_out > 0 {
            (notice(&html! { (words.count(answer.left_out.into(),
                en("1 row of the file was left out when it was accepted; it is no part of the order."),
                en("{n} rows of the file were left out when it was accepted; they are no part of the order."))) }))
        }
        (states(words, &address, answer, filter))
        @if lines.is_empty() {
            p.muted { @if filter == ReconciledFilter::Differing { (words.t("Every machine is staged as ordered.")) } @else { (words.t("No such machines.")) } }
        } @else {
            (draw::table(words.t("Machines"), &columns, &[0], &lines))
            (turn(words, &here, page, total))
        }
        (older(words, id, filter, oldest))
    }
}

fn downloads(words: Words, id: i64, filter: ReconciledFilter, oldest: &str) -> Markup {
    let csv = format!("/api/v1/imports/{id}/reconciliation.csv");
    let href = |state: &str| with(&csv, &[("state", state), ("oldest", oldest)]);
    html! {
        a.button href={ "/imports/" (id) } { (words.t("The import")) }
        a.button href=(href(filter.word())) download { (words.t("These rows as CSV")) }
        a.button href=(href(ReconciledState::Missing.word())) download { (words.t("The missing ones as CSV")) }
    }
}

fn states(
    words: Words,
    address: &str,
    answer: &Reconciliation,
    filter: ReconciledFilter,
) -> Markup {
    let counts = &answer.counts;
    let mut choices: Vec<Kind> = vec![
        ("", en("All"), counts.staged + counts.differing()),
        (DIFFERING, en("Not as ordered"), counts.differing()),
    ];
    choices.extend(ReconciledState::ALL.map(|state| (state.word(), word(state), counts.of(state))));
    kinds(
        words,
        words.t("State"),
        (address, "state"),
        filter.word(),
        &choices,
    )
}

/// What stands for a state, to be translated.
const fn word(state: ReconciledState) -> &'static str {
    match state {
        ReconciledState::Staged => en("Staged"),
        ReconciledState::Missing => en("Missing"),
        ReconciledState::Failed => en("Failed"),
        ReconciledState::WrongModel => en("Wrong model"),
        ReconciledState::WrongBundle => en("Wrong bundle"),
        ReconciledState::StagedTwice => en("Staged twice"),
        ReconciledState::Unexpected => en("Unexpected"),
    }
}

/// Each state has a sign of its own, so that colour is never needed.
const fn sign(state: ReconciledState) -> (&'static str, &'static str) {
    match state {
        ReconciledState::Staged => ("chip s-completed", DONE),
        ReconciledState::Missing => (
            "chip s-stalled",
            "M6 6a2 2 0 1 1 2.500 2c-.400.200-.500.500-.500 1.500M8 12v.1",
        ),
        ReconciledState::Failed => ("chip s-failed", CROSS),
        ReconciledState::WrongModel => ("chip s-quarantined", "M3 6h10M3 10h10M10 3 6 13"),
        ReconciledState::WrongBundle => (
            "chip s-quarantined",
            "M2.500 5 8 2.200 13.500 5v6L8 13.800 2.500 11Z",
        ),
        ReconciledState::StagedTwice => ("chip s-stalled", "M3 3h7v7H3ZM6 10v3h7V6h-3"),
        ReconciledState::Unexpected => ("chip s-stalled", "M8 3v10M3 8h10"),
    }
}

fn machine(words: Words, row: &ReconciledRow) -> Markup {
    let (class, drawing) = sign(row.state);
    let line = row
        .line
        .map_or_else(|| "—".to_owned(), |line| line.to_string());
    let ordered = format!("{} {}", row.ordered.vendor, row.ordered.product);
    html! {
        td.number { (line) }
        th scope="row" { @if row.device.is_some() { a.mono href=(layout::device_address(&row.serial)) { (row.serial) } }
            @else { span.mono { (layout::or_dash(&row.serial)) } } }
        td { (layout::or_dash(&row.asset_tag)) }
        td { (layout::or_dash(&ordered)) }
        td { span class=(class) { (layout::icon(drawing)) (words.t(word(row.state))) } }
        td {
            @if let Some(claim) = &row.claim {
                @match claim.result { ReceiptResult::Staged => (words.t("Staged")), ReceiptResult::Failed => (words.t("Failed")) }
                @if let Some(prestage) = &claim.prestage { ", " (prestage) }
                span.sub { (claim.model) ", " (words.time(claim.received_at_ms))
                    @if claim.receipts > 1 { ", " (words.fill(en("{n} receipts"), &[("n", &claim.receipts)])) } }
            } @else { (words.t("Nothing")) }
        }
        td.value { @for why in &row.said { div { (layout::capital(words.say(why))) } } @if row.said.is_empty() { "—" } }
    }
}

/// Which older bundles are as good as the newest.
fn older(words: Words, id: i64, filter: ReconciledFilter, oldest: &str) -> Markup {
    html! {
        details.edit open[!oldest.is_empty()] {
            summary { (words.t("Older bundles that are good, too")) }
            form.stacked.card method="get" action={ "/imports/" (id) "/receipts" } {
                label for="oldest" { (words.t("Oldest version of each prestage, with commas between")) }
                input #oldest name="oldest" value=(oldest) placeholder="book-14@3" maxlength="400" autocomplete="off" spellcheck="false";
                @if !filter.word().is_empty() { input type="hidden" name="state" value=(filter.word()); }
                div.buttons { button { (words.t("Compare")) } }
            }
        }
    }
}
