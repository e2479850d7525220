//! The figures as tables for a spreadsheet.

use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use wire::insights::Insights;

use super::{PeriodQuery, insights_for};
use crate::error::Failure;
use crate::people::auth::User;
use crate::state::AppState;
use crate::text::spreadsheet_safe;
use crate::web::filter::FilterQuery;

/// Which of the figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The progress of each site.
    #[default]
    Rollout,
    /// Why runs failed.
    Failures,
    /// How long steps took.
    Steps,
    /// What happened on each day.
    Days,
    /// Runs by the hour of the day.
    Hours,
}

/// The query's choice among the figures.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PartQuery {
    pub(crate) part: Part,
}

/// `GET /api/v1/insights.csv?part=PART`
pub(crate) async fn csv(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<FilterQuery>,
    Query(period): Query<PeriodQuery>,
    Query(PartQuery { part }): Query<PartQuery>,
) -> Result<impl IntoResponse, Failure> {
    let told = insights_for(&state, &user, &query.into(), period.into()).await?;
    let text = written(part, &told).map_err(|source| Failure::System {
        what: "write a table",
        source,
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"insights.csv\"",
        ),
    ];
    Ok((headers, text))
}

fn written(
    part: Part,
    told: &Insights,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    // The mark of byte order: without it, Excel takes Norwegian letters for something else.
    let mut bytes = "\u{feff}".as_bytes().to_vec();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    let (columns, rows) = table(part, told);
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(row.iter().map(|text| spreadsheet_safe(text).into_owned()))?;
    }
    writer.flush()?;
    drop(writer);
    Ok(bytes)
}

/// The titles of the columns, and the rows.
fn table(part: Part, told: &Insights) -> (&'static [&'static str], Vec<Vec<String>>) {
    let figures = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
    let row = |texts: &[&str], numbers: &[u64]| {
        let texts = texts.iter().map(|text| (*text).to_owned());
        texts.chain(figures(numbers)).collect::<Vec<_>>()
    };
    match part {
        Part::Rollout => (
            &[
                "site",
                "name",
                "devices",
                "completed",
                "running",
                "in-trouble",
                "local-bytes",
                "network-bytes",
            ],
            told.sites
                .iter()
                .map(|site| {
                    let numbers = [site.devices, site.completed, site.running, site.in_trouble];
                    let bytes = [site.local_bytes, site.network_bytes];
                    row(&[&site.site, &site.name], &[&numbers[..], &bytes].concat())
                })
                .collect(),
        ),
        Part::Failures => (
            &["devices", "runs", "step", "message", "example"],
            told.failures
                .iter()
                .map(|reason| {
                    let mut cells = figures(&[reason.devices, reason.runs]);
                    cells.extend(row(&[&reason.step, &reason.message, &reason.example], &[]));
                    cells
                })
                .collect(),
        ),
        Part::Steps => (
            &[
                "step",
                "title",
                "kind",
                "runs",
                "median-ms",
                "p95-ms",
                "longest-ms",
                "share-percent",
            ],
            told.steps
                .iter()
                .map(|step| {
                    let numbers = [step.runs, step.median_ms, step.p95_ms, step.longest_ms];
                    let share = [u64::from(step.share_percent)];
                    row(
                        &[&step.path, &step.title, &step.kind],
                        &[&numbers[..], &share].concat(),
                    )
                })
                .collect(),
        ),
        Part::Days => (
            &[
                "day",
                "completed",
                "failed",
                "done-so-far",
                "local-bytes",
                "network-bytes",
            ],
            told.days
                .iter()
                .map(|day| {
                    let runs = [day.completed, day.failed, day.done_so_far];
                    let bytes = [day.local_bytes, day.network_bytes];
                    row(&[&day.day], &[&runs[..], &bytes].concat())
                })
                .collect(),
        ),
        Part::Hours => (
            &["hour", "completed", "failed"],
            told.hours
                .iter()
                .map(|hour| figures(&[u64::from(hour.hour), hour.completed, hour.failed]))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::{Chosen, Period};
    use super::*;
    use crate::runs::history::tests::past_of;
    use crate::web::filter::Filter;
    use crate::web::sample;

    #[test]
    fn every_part_has_a_line_for_each_figure_and_no_formula() {
        let rows = sample::kept();
        let past = past_of(&rows);
        let (filter, period) = (Filter::default(), Period::default());
        let mut told = Chosen::of(rows, &past, &filter, period, TimeZone::UTC).insights(&past);
        told.sites[0].name = "=1+1".into();
        for (part, lines) in [
            (Part::Rollout, told.sites.len()),
            (Part::Failures, told.failures.len()),
            (Part::Steps, told.steps.len()),
            (Part::Days, told.days.len()),
            (Part::Hours, 24),
        ] {
            let bytes = written(part, &told).unwrap();
            let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap();
            let mut reader = csv::Reader::from_reader(text);
            let read: Vec<_> = reader.records().map(Result::unwrap).collect();
            assert_eq!(read.len(), lines, "{part:?}");
            if part == Part::Rollout {
                assert_eq!(&read[0][1], "'=1+1");
                let bytes: u64 = read.iter().map(|row| row[6].parse::<u64>().unwrap()).sum();
                assert_eq!(bytes, told.local_bytes);
            }
        }
    }
}
