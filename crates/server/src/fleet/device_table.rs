//! The devices as a table for a spreadsheet: what the overview shows, with the same filter.

use axum::extract::{Extension, Query, State};
use axum::response::Response;
use wire::admin_api::DeviceRow;

use crate::error::Failure;
use crate::people::auth::User;
use crate::people::reach::told;
use crate::people::roles::May;
use crate::spreadsheet;
use crate::state::AppState;
use crate::web::filter::{Clock, Filter, FilterQuery};
use crate::web::overview;

const COLUMNS: [&str; 27] = [
    "name",
    "serial",
    "asset-tag",
    "vendor",
    "product",
    "site",
    "site-name",
    "class",
    "state",
    "collections",
    "bundle",
    "deployment",
    "sequence",
    "step",
    "steps",
    "step-title",
    "elapsed-seconds",
    "expected-seconds",
    "local-bytes",
    "network-bytes",
    "last-seen",
    "message",
    "boot-image",
    "key-protection",
    "seen-site",
    "seen-site-name",
    // The last one, and only for those who may see pupils.
    "pupil",
];

/// `GET /api/v1/devices.csv`: the devices that match the filter, in the order of the overview.
pub(crate) async fn csv(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<FilterQuery>,
) -> Result<Response, Failure> {
    let (fleet, clock) = (state.fleet().await?, Clock::now());
    let rows = overview::within(&fleet, &user.reach);
    let shown = overview::select(&rows, &Filter::from(query), clock);
    let rows = shown.iter();
    let rows = rows.map(|row| told(&fleet, &user, row, clock.now_ms));
    let columns = columns(user.may(May::ViewPupils));
    spreadsheet::file("devices.csv", columns, rows.map(|row| cells(&row, columns)))
}

fn columns(with_pupils: bool) -> &'static [&'static str] {
    &COLUMNS[..COLUMNS.len() - usize::from(!with_pupils)]
}

fn cells(row: &DeviceRow, columns: &[&str]) -> Vec<String> {
    record(row).into_iter().take(columns.len()).collect()
}

fn record(row: &DeviceRow) -> [String; COLUMNS.len()] {
    let run = row.run.as_ref();
    let text = |value: Option<String>| value.unwrap_or_default();
    let collections: Vec<_> = row.collections.iter().map(|name| name.as_str()).collect();
    let seen = row.last_seen_at_ms.map(spreadsheet::moment);
    [
        text(row.name.clone()),
        row.serial.clone(),
        row.asset_tag.clone(),
        row.model.vendor.clone(),
        row.model.product.clone(),
        row.site.clone(),
        row.site_name.clone(),
        row.class.clone(),
        row.state.to_string(),
        collections.join(" "),
        text(row.bundle.clone()),
        text(run.map(|run| run.deployment.to_string())),
        text(run.map(|run| run.sequence.to_string())),
        text(run.map(|run| run.step_number.to_string())),
        text(run.map(|run| run.step_count.to_string())),
        text(run.map(|run| run.step_title.clone())),
        text(run.map(|run| run.elapsed_seconds.to_string())),
        text(run.map(|run| run.expected_seconds.to_string())),
        text(run.map(|run| {
            run.content
                .unchanged
                .saturating_add(run.content.local)
                .to_string()
        })),
        text(run.map(|run| run.content.network_packed.to_string())),
        text(seen),
        text(row.message.clone()),
        text(row.boot_image.clone()),
        row.key_protection
            .map_or_else(String::new, |protection| protection.word().to_owned()),
        text(row.seen_site.clone()),
        text(row.seen_site_name.clone()),
        text(row.pupil.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_a_line_of_the_same_width() {
        let mut rows = crate::web::sample::devices();
        rows[0].class = "=HYPERLINK(\"x\"),\"\n".into();
        rows[0].pupil = Some("Åse".into());
        for with_pupils in [true, false] {
            let columns = columns(with_pupils);
            let lines = rows.iter().map(|row| cells(row, columns));
            let bytes = spreadsheet::bytes(columns, lines).unwrap();
            let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap();
            let mut reader = csv::Reader::from_reader(text);
            let read: Vec<_> = reader.records().map(Result::unwrap).collect();
            assert_eq!(read.len(), rows.len());
            assert_eq!(&read[0][7], "'=HYPERLINK(\"x\"),\"\n");
            let is_told = read[0].iter().any(|text| text == "Åse");
            assert_eq!(is_told, with_pupils, "the pupil is the last column");
        }
    }
}
