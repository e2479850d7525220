//! The audit: who did what, chained so that a change shows. See `docs/formats/audit.md`.
//!
//! Each row holds the digest of the row before and its own fields. Writers take turns, so the chain has one head.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use ipnet::IpNet;
use serde::Deserialize;
use sqlx::FromRow;
use wire::admin_api::AuditRow;
use wire::audit::{AuditBreak, AuditHead, AuditVerified, Broken, Verifier, chained, start};
use wire::digest::Digest;

use crate::connection::client;
use crate::db::{Db, Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::subnets;
use crate::limits::LIST_ROWS_MAX;
use crate::routes::page::{PageQuery, next_page};
use crate::spreadsheet::{self, TABLE_ROWS_MAX};
use crate::state::{AppState, now_ms};

/// Rows read at a time while a text is looked for.
const BATCH_ROWS: i64 = 1000;
/// Rows of which a verification holds the texts in memory.
const VERIFIED_ROWS: usize = 5000;
/// Rows looked at for one answer; then the caller goes on with the cursor.
const LOOKED_AT_MAX: usize = 100_000;

/// Notes who did what, and from where the current request came.
pub(crate) async fn audit(
    db: &mut Write,
    who: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Failure> {
    let head = head(db).await?;
    let row = AuditRow {
        number: head.number + 1,
        at_ms: now_ms(),
        who: who.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
        address: client()
            .map(|address| address.to_string())
            .unwrap_or_default(),
        digest: None,
    };
    let digest = chained(&head.digest, &row);
    sqlx::query(
        "INSERT INTO audit (at_ms, who, action, subject, detail, address, number, digest) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.at_ms)
    .bind(who)
    .bind(action)
    .bind(subject)
    .bind(detail)
    .bind(&row.address)
    .bind(to_i64(row.number))
    .bind(digest.to_string())
    .execute(&mut **db)
    .await
    .doing("write the audit")?;
    tracing::info!(
        user.name = who,
        action,
        subject,
        "audit: {who} {action} {subject}"
    );
    Ok(())
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn head(db: &mut Write) -> Result<AuditHead, Failure> {
    let newest: Option<(i64, String)> = sqlx::query_as(
        "SELECT number, digest FROM audit WHERE number > 0 ORDER BY number DESC LIMIT 1",
    )
    .fetch_optional(&mut **db)
    .await
    .doing("read the end of the audit")?;
    Ok(match newest {
        Some((number, digest)) => AuditHead {
            number: u64::try_from(number).unwrap_or(0),
            digest: stored_text("digest of the audit", &digest)?,
        },
        None => start(),
    })
}

/// Chains the rows that were written before there was a chain, in the order in which they were written.
pub(crate) async fn chain_old_rows(database: &Db) -> Result<(), Failure> {
    let mut db = database.write().await?;
    let rows: Vec<(i64, i64, String, String, String, String)> = sqlx::query_as(
        "SELECT id, at_ms, who, action, subject, detail FROM audit WHERE number = 0 ORDER BY id",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read the audit")?;
    let mut head = head(&mut db).await?;
    for (id, at_ms, who, action, subject, detail) in rows {
        let row = AuditRow {
            number: head.number + 1,
            at_ms,
            who,
            action,
            subject,
            detail,
            address: String::new(),
            digest: None,
        };
        head = AuditHead {
            number: row.number,
            digest: chained(&head.digest, &row),
        };
        sqlx::query("UPDATE audit SET number = $1, digest = $2 WHERE id = $3")
            .bind(to_i64(head.number))
            .bind(head.digest.to_string())
            .bind(id)
            .execute(&mut *db)
            .await
            .doing("chain the audit")?;
    }
    commit(db).await
}

/// Which rows are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Wanted {
    /// Who did it, exactly.
    pub(crate) who: String,
    /// What was done, exactly.
    pub(crate) action: String,
    /// To what, exactly.
    pub(crate) subject: String,
    /// From where: an IP address, or a subnet.
    pub(crate) address: String,
    /// A part of any of these or of the detail, whatever its case.
    pub(crate) text: String,
    /// Not before.
    pub(crate) from_ms: Option<i64>,
    /// Before.
    pub(crate) to_ms: Option<i64>,
    /// `oldest` first instead of newest.
    pub(crate) order: String,
}

#[derive(FromRow)]
struct Stored {
    number: i64,
    at_ms: i64,
    who: String,
    action: String,
    subject: String,
    detail: String,
    address: String,
    digest: String,
}

impl Stored {
    fn row(self) -> AuditRow {
        AuditRow {
            number: u64::try_from(self.number).unwrap_or(0),
            at_ms: self.at_ms,
            who: self.who,
            action: self.action,
            subject: self.subject,
            detail: self.detail,
            address: self.address,
            digest: self.digest.parse::<Digest>().ok(),
        }
    }
}

macro_rules! audit_sql {
    ($side:literal, $order:literal) => {
        concat!(
            "SELECT number, at_ms, who, action, subject, detail, address, digest FROM audit WHERE number ",
            $side,
            " $1 AND ($2 = '' OR who = $2) AND ($3 = '' OR action = $3) AND ($4 = '' OR subject = $4) ",
            "AND at_ms >= $5 AND at_ms < $6 ORDER BY number ",
            $order,
            " LIMIT $7"
        )
    };
}

impl AppState {
    /// At most `limit` rows that fit, and where to go on if there may be more.
    pub(crate) async fn audit_page(
        &self,
        wanted: &Wanted,
        cursor: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<AuditRow>, Option<i64>), Failure> {
        let oldest_first = wanted.order == "oldest";
        let sql = match oldest_first {
            true => audit_sql!(">", "ASC"),
            false => audit_sql!("<", "DESC"),
        };
        let text = wanted.text.to_lowercase();
        let subnet = match wanted.address.as_str() {
            "" => None,
            text => {
                let bad = |message| Failure::bad_request("bad-address", message);
                Some(subnets::parse(text).map_err(bad)?)
            }
        };
        let mut at = cursor.unwrap_or(if oldest_first { 0 } else { i64::MAX });
        let mut found = Vec::new();
        let mut looked_at = 0;
        loop {
            let batch: Vec<Stored> = sqlx::query_as(sql)
                .bind(at)
                .bind(&wanted.who)
                .bind(&wanted.action)
                .bind(&wanted.subject)
                .bind(wanted.from_ms.unwrap_or(i64::MIN))
                .bind(wanted.to_ms.unwrap_or(i64::MAX))
                .bind(BATCH_ROWS)
                .fetch_all(self.db().read())
                .await
                .doing("read the audit")?;
            let is_last = batch.len() < usize::try_from(BATCH_ROWS).unwrap_or(0);
            looked_at += batch.len();
            for stored in batch {
                if found.len() == limit {
                    return Ok((found, Some(at)));
                }
                at = stored.number;
                let row = stored.row();
                if holds(&row, &text) && subnet.is_none_or(|subnet| is_from(&row, subnet)) {
                    found.push(row);
                }
            }
            if is_last {
                return Ok((found, None));
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok((found, Some(at)));
            }
        }
    }
}

fn holds(row: &AuditRow, text: &str) -> bool {
    let fields = [
        &row.who,
        &row.action,
        &row.subject,
        &row.detail,
        &row.address,
    ];
    text.is_empty()
        || fields
            .iter()
            .any(|field| field.to_lowercase().contains(text))
}

fn is_from(row: &AuditRow, subnet: IpNet) -> bool {
    let address = row.address.parse::<IpAddr>();
    address.is_ok_and(|address| subnet.contains(&address))
}

impl AppState {
    /// Goes along the whole chain; `noted` is a head that was seen earlier.
    pub(crate) async fn verify_audit(&self, noted: Option<AuditHead>) -> Result<Verified, Failure> {
        let all = Wanted {
            order: "oldest".into(),
            ..Wanted::default()
        };
        let mut verifier = Verifier::new(noted);
        let mut cursor = None;
        loop {
            let (rows, next) = self.audit_page(&all, cursor, VERIFIED_ROWS).await?;
            for row in &rows {
                if let Err(broken) = verifier.next(row) {
                    return Ok((verifier.head(), Some(broken)));
                }
            }
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok((verifier.head(), verifier.finish().err()))
    }
}

/// The last row of the chain that is right, and what is wrong after it.
pub(crate) type Verified = (AuditHead, Option<Broken>);

/// `GET /api/v1/audit`
pub(crate) async fn audit_rows(
    State(state): State<AppState>,
    Query(wanted): Query<Wanted>,
    Query(page): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<AuditRow>>), Failure> {
    let limit = page.limit_or(usize::try_from(LIST_ROWS_MAX).unwrap_or(0));
    let cursor = page.cursor_number()?;
    let (rows, next) = state.audit_page(&wanted, cursor, limit).await?;
    let headers = next_page("/api/v1/audit", &page_query(&wanted), limit, next);
    Ok((headers, Json(rows)))
}

/// `GET /api/v1/audit.csv`: all rows that fit, the newest ones if there are more than a table holds.
pub(crate) async fn csv(
    State(state): State<AppState>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let left = TABLE_ROWS_MAX - rows.len();
        let (some, next) = state.audit_page(&wanted, cursor, left).await?;
        rows.extend(some);
        match next {
            Some(_) if rows.len() < TABLE_ROWS_MAX => cursor = next,
            _ => break,
        }
    }
    let columns = ["row", "when", "who", "from", "action", "subject", "details"];
    let rows = rows.into_iter().map(|row| {
        vec![
            row.number.to_string(),
            spreadsheet::moment(row.at_ms),
            row.who,
            row.address,
            row.action,
            row.subject,
            row.detail,
        ]
    });
    spreadsheet::file("audit.csv", &columns, rows)
}

/// The filter as it stood in the query, for the link to the next page.
pub(crate) fn page_query(wanted: &Wanted) -> Vec<(&'static str, String)> {
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    [
        ("who", wanted.who.clone()),
        ("action", wanted.action.clone()),
        ("subject", wanted.subject.clone()),
        ("address", wanted.address.clone()),
        ("text", wanted.text.clone()),
        ("from-ms", number(wanted.from_ms)),
        ("to-ms", number(wanted.to_ms)),
        ("order", wanted.order.clone()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// `GET /api/v1/audit/head`: the newest row's number and digest, to be noted elsewhere.
pub(crate) async fn audit_head(State(state): State<AppState>) -> Result<Json<AuditHead>, Failure> {
    let mut db = state.db().write().await?;
    head(&mut db).await.map(Json)
}

/// What a verification is compared with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Noted {
    /// A head that was noted earlier, `NUMBER:DIGEST`; empty for none.
    head: String,
}

impl Noted {
    pub(crate) fn head(&self) -> Result<Option<AuditHead>, Failure> {
        match self.head.trim() {
            "" => Ok(None),
            text => {
                let bad = |message| Failure::bad_request("bad-head", message);
                text.parse().map(Some).map_err(bad)
            }
        }
    }
}

/// `GET /api/v1/audit/verify`
pub(crate) async fn audit_verify(
    State(state): State<AppState>,
    Query(noted): Query<Noted>,
) -> Result<Json<AuditVerified>, Failure> {
    let noted = noted.head()?;
    let (head, broken) = state.verify_audit(noted).await?;
    Ok(Json(AuditVerified {
        head,
        noted: noted.is_some(),
        broken: broken.map(|broken| AuditBreak {
            row: broken.row(),
            why: broken.to_string(),
        }),
    }))
}
