//! `/api/v1/imports/{id}/reconciliation` and its CSV; `/api/v1/receipts/reconcile` for a list of serial numbers.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use wire::drift::PrestageId;
use wire::receipt::ReceiptResult;
use wire::reconciliation::{
    RECONCILED_ROWS_DEFAULT, RECONCILED_ROWS_MAX, RECONCILED_SERIALS_MAX, ReconcileSerials,
    ReconciledFilter, ReconciledRow, Reconciliation,
};

use super::read::{self, Question, Window};
use crate::error::Failure;
use crate::limits::JSON_BYTES_MAX;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::state::AppState;
use crate::text::spreadsheet_safe;

/// Versions that can be called as good as the newest: one for each prestage of the largest county.
const OLDEST_MAX: usize = 200;

/// What is asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Asked {
    state: String,
    /// `NAME@N`, several with commas between.
    oldest: String,
    limit: Option<usize>,
    offset: usize,
}

impl Asked {
    /// As it was written.
    pub(crate) fn oldest(&self) -> &str {
        &self.oldest
    }

    pub(crate) fn question(&self) -> Result<Question, Failure> {
        let oldest = self.oldest.split(',').filter(|id| !id.is_empty());
        let limit = self.limit.unwrap_or(RECONCILED_ROWS_DEFAULT);
        question(&self.state, oldest, self.offset, limit)
    }
}

fn question<'a>(
    state: &str,
    oldest: impl Iterator<Item = &'a str>,
    offset: usize,
    limit: usize,
) -> Result<Question, Failure> {
    let filter: ReconciledFilter = state
        .parse()
        .map_err(|message: String| Failure::bad_request("bad-state", message))?;
    let oldest = oldest
        .take(OLDEST_MAX)
        .map(|id| parse(id.trim()))
        .collect::<Result<Vec<PrestageId>, _>>()?;
    Ok(Question {
        window: Window {
            filter,
            offset,
            limit: limit.min(RECONCILED_ROWS_MAX),
        },
        oldest,
    })
}

/// `GET /api/v1/imports/{id}/reconciliation`
pub(crate) async fn of_import(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    Query(asked): Query<Asked>,
) -> Result<Json<Reconciliation>, Failure> {
    let question = asked.question()?;
    read::of_import(&state, &user, id, question).await.map(Json)
}

/// `POST /api/v1/receipts/reconcile`: a question too long for an address; it changes nothing.
pub(crate) async fn of_serials(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<Reconciliation>, Failure> {
    let asked: ReconcileSerials = read_json(body, JSON_BYTES_MAX).await?;
    if asked.serials.len() > RECONCILED_SERIALS_MAX {
        let message = format!("there are more than {RECONCILED_SERIALS_MAX} serial numbers");
        return Err(Failure::bad_request("too-many-serials", message));
    }
    let oldest = asked.oldest.iter().map(String::as_str);
    let question = question(&asked.state, oldest, 0, RECONCILED_ROWS_MAX)?;
    let answer = read::of_serials(&state, &user, &asked.serials, question).await?;
    Ok(Json(answer))
}

/// `GET /api/v1/imports/{id}/reconciliation.csv`: for the vendor.
pub(crate) async fn csv_of_import(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    Query(asked): Query<Asked>,
) -> Result<impl IntoResponse, Failure> {
    let asked = Asked {
        limit: Some(RECONCILED_ROWS_MAX),
        ..asked
    };
    let answer = read::of_import(&state, &user, id, asked.question()?).await?;
    let bytes = table(&answer.rows).map_err(|source| Failure::System {
        what: "write a CSV",
        source,
    })?;
    let name = match asked.state.as_str() {
        "" => format!("attachment; filename=\"import-{id}-receipts.csv\""),
        // Checked above: it is a word of ours.
        word => format!("attachment; filename=\"import-{id}-{word}.csv\""),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, bytes))
}

const COLUMNS: [&str; 14] = [
    "line",
    "serial",
    "asset-tag",
    "vendor",
    "product",
    "site",
    "state",
    "why",
    "stick-result",
    "stick-vendor",
    "stick-product",
    "stick-bundle",
    "stick-disk",
    "stick-received",
];

fn table(rows: &[ReconciledRow]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    // The mark of byte order: without it, Excel takes Norwegian letters for something else.
    let mut bytes = "\u{feff}".as_bytes().to_vec();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    writer.write_record(COLUMNS)?;
    for row in rows {
        let record = record(row);
        writer.write_record(
            record
                .iter()
                .map(|text| spreadsheet_safe(text).into_owned()),
        )?;
    }
    writer.flush()?;
    drop(writer);
    Ok(bytes)
}

fn record(row: &ReconciledRow) -> [String; COLUMNS.len()] {
    let claim = row.claim.as_ref();
    let said = |text: fn(&wire::reconciliation::StickClaim) -> String| {
        claim.map_or_else(String::new, text)
    };
    [
        row.line.map_or_else(String::new, |line| line.to_string()),
        row.serial.clone(),
        row.asset_tag.clone(),
        row.ordered.vendor.clone(),
        row.ordered.product.clone(),
        row.site.clone(),
        row.state.word().to_owned(),
        row.why.join("; "),
        said(|claim| match claim.result {
            ReceiptResult::Staged => "staged".into(),
            ReceiptResult::Failed => "failed".into(),
        }),
        said(|claim| claim.model.vendor.clone()),
        said(|claim| claim.model.product.clone()),
        said(|claim| {
            claim
                .prestage
                .as_ref()
                .map_or_else(String::new, ToString::to_string)
        }),
        said(|claim| claim.disk_serial.clone()),
        said(|claim| {
            jiff::Timestamp::from_millisecond(claim.received_at_ms).map_or_else(
                |_| String::new(),
                |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            )
        }),
    ]
}
