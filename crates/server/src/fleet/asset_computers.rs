//! The asset system's table over HTTP: the rows of the view `asset_computers`, as JSON in pages or as one CSV.

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use wire::asset_computers::{AssetComputer, AssetComputerPage, COMPUTERS_PAGE, COMPUTERS_PAGE_MAX};

use crate::db::views::COLUMNS;
use crate::error::{Doing as _, Failure, stored_value};
use crate::people::auth::User;
use crate::people::roles::{May, Reach};
use crate::state::AppState;
use crate::text::spreadsheet_safe;

/// Columns that tell of a pupil.
const PUPIL_COLUMNS: [&str; 2] = ["pupil_id", "pupil_name"];

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Asked {
    after: String,
    limit: Option<u32>,
    site: String,
    state: String,
    format: Format,
}

/// How the answer is written; links in pages can't send an `Accept`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// `GET /api/v1/asset-computers`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(mut asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    match &user.reach {
        Reach::Everywhere => {}
        Reach::Site(own) if asked.site.is_empty() || asked.site == *own => {
            asked.site.clone_from(own);
        }
        Reach::Site(_) | Reach::Nowhere => {
            return Err(Failure::not_found("such site").hint("leave `site` out to see your own"));
        }
    }
    let shows_pupils = user.may(May::ViewPupils);
    let wants_csv = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.starts_with("text/csv"));
    if wants_csv || asked.format == Format::Csv {
        return csv_of_all(&state, asked, shows_pupils).await;
    }
    let limit = asked.limit.unwrap_or(COMPUTERS_PAGE);
    if limit == 0 || limit > COMPUTERS_PAGE_MAX {
        let message = format!("a page has 1 to {COMPUTERS_PAGE_MAX} rows");
        return Err(Failure::bad_request("bad-limit", message));
    }
    let mut rows = page(&state, &asked, limit + 1, shows_pupils).await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| has_more).and_then(device_id);
    let computers = rows
        .into_iter()
        .map(computer)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Json(AssetComputerPage { computers, next }).into_response())
}

async fn csv_of_all(
    state: &AppState,
    mut asked: Asked,
    shows_pupils: bool,
) -> Result<Response, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Failure::System {
        what: "write a CSV",
        source: error.into(),
    };
    writer.write_record(COLUMNS).map_err(failed)?;
    loop {
        let rows = page(state, &asked, COMPUTERS_PAGE_MAX, shows_pupils).await?;
        for row in &rows {
            let fields = row.iter().map(|(_, value)| match value {
                Value::String(text) => spreadsheet_safe(text).into_owned(),
                Value::Null => String::new(),
                other => other.to_string(),
            });
            writer.write_record(fields).map_err(failed)?;
        }
        match rows.last().and_then(device_id) {
            Some(last) if rows.len() == COMPUTERS_PAGE_MAX as usize => asked.after = last,
            _ => break,
        }
    }
    let bytes = writer.into_inner().map_err(|error| Failure::System {
        what: "write a CSV",
        source: error.into_error().into(),
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"asset-computers.csv\"",
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// The values of a row in the order of [`COLUMNS`].
type Values = Vec<(&'static str, Value)>;

async fn page(
    state: &AppState,
    asked: &Asked,
    limit: u32,
    shows_pupils: bool,
) -> Result<Vec<Values>, Failure> {
    let columns = COLUMNS.join(", ");
    let sql = format!(
        "SELECT {columns} FROM asset_computers WHERE device_id > $1 AND ($2 = '' OR site_code = $2) \
         AND ($3 = '' OR state = $3) ORDER BY device_id LIMIT $4"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&asked.after)
        .bind(&asked.site)
        .bind(&asked.state)
        .bind(i64::from(limit))
        .fetch_all(state.db().read())
        .await
        .doing("read the view asset_computers")?;
    rows.iter().map(|row| values(row, shows_pupils)).collect()
}

fn values(row: &AnyRow, shows_pupils: bool) -> Result<Values, Failure> {
    let value = |column: &&'static str| {
        if !shows_pupils && PUPIL_COLUMNS.contains(column) {
            return Ok((*column, Value::Null));
        }
        let is_number = column.ends_with("_ms") || *column == "prestage_version";
        let value = if is_number {
            row.try_get::<Option<i64>, _>(*column).map(Value::from)
        } else {
            row.try_get::<Option<String>, _>(*column).map(Value::from)
        };
        let value = value.doing("read a row of the view asset_computers")?;
        Ok((*column, value))
    };
    COLUMNS.iter().map(value).collect()
}

fn device_id(row: &Values) -> Option<String> {
    let (_, value) = row.first()?;
    value.as_str().map(str::to_owned)
}

fn computer(row: Values) -> Result<AssetComputer, Failure> {
    let object: Map<String, Value> = row
        .into_iter()
        .map(|(column, value)| (column.replace('_', "-"), value))
        .collect();
    stored_value("row of the view asset_computers", Value::Object(object))
}
