//! The devices as a table for a spreadsheet: what the overview shows, with the same filter.

use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use wire::admin_api::DeviceRow;

use crate::error::Failure;
use crate::people::auth::User;
use crate::people::reach::told;
use crate::people::roles::May;
use crate::state::AppState;
use crate::web::filter::{Clock, Filter, FilterQuery};
use crate::web::overview;

const COLUMNS: [&str; 26] = [
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
) -> Result<impl IntoResponse, Failure> {
    let (fleet, clock) = (state.fleet().await?, Clock::now());
    let rows = overview::within(&fleet, &user.reach);
    let shown = overview::select(&rows, &Filter::from(query), clock);
    let rows = shown.iter();
    let rows = rows.map(|row| told(&fleet, &user, row, clock.now_ms));
    let text = table(rows, user.may(May::ViewPupils)).map_err(|source| Failure::System {
        what: "write a table",
        source,
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"devices.csv\"",
        ),
    ];
    Ok((headers, text))
}

fn table(
    rows: impl Iterator<Item = DeviceRow>,
    with_pupils: bool,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    // The mark of byte order: without it, Excel takes Norwegian letters for something else.
    let mut bytes = "\u{feff}".as_bytes().to_vec();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    let columns = COLUMNS.len() - usize::from(!with_pupils);
    writer.write_record(&COLUMNS[..columns])?;
    for row in rows {
        let record = record(&row).map(|text| defused(&text));
        writer.write_record(&record[..columns])?;
    }
    writer.flush()?;
    drop(writer);
    Ok(bytes)
}

fn record(row: &DeviceRow) -> [String; COLUMNS.len()] {
    let run = row.run.as_ref();
    let text = |value: Option<String>| value.unwrap_or_default();
    let collections: Vec<_> = row.collections.iter().map(|name| name.as_str()).collect();
    let seen = row
        .last_seen_at_ms
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
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
        text(seen.map(|seen| seen.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        text(row.message.clone()),
        text(row.boot_image.clone()),
        text(row.seen_site.clone()),
        text(row.seen_site_name.clone()),
        text(row.pupil.clone()),
    ]
}

/// A spreadsheet takes a text that begins like this for a formula and runs it; an apostrophe makes it a text again.
fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_texts() {
        for text in ["=1+1", "+47 1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(defused(text), format!("'{text}"));
        }
        assert_eq!(defused("Åse 1=2"), "Åse 1=2");
    }

    #[test]
    fn every_device_is_a_line_of_the_same_width() {
        let mut rows = crate::web::sample::devices();
        rows[0].class = "=HYPERLINK(\"x\"),\"\n".into();
        rows[0].pupil = Some("Åse".into());
        for with_pupils in [true, false] {
            let bytes = table(rows.iter().cloned(), with_pupils).unwrap();
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
