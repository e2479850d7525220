//! Gathers an order, the receipts and what was built, as far as someone sees them.

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::admin_api::PrestageVersion;
use wire::drift::PrestageId;
use wire::imports::{ImportRow, ImportState};
use wire::names::DeviceId;
use wire::package::Model;
use wire::receipt::Receipt;
use wire::reconciliation::{ReconciledCounts, ReconciledFilter, ReconciledRow, Reconciliation};

use super::judge::{Built, Bundles, Claim, Claims, Ordered, judge};
use crate::error::{Doing as _, Failure, stored};
use crate::fleet::aliases::Aliases;
use crate::fleet::identity::name_key;
use crate::fleet::import::drafts::{self, DoneRow};
use crate::limits::ASSET_TEXT_CHARS_MAX;
use crate::people::auth::User;
use crate::state::{AppState, blocking};
use crate::text::clean;

/// Which rows of a reconciliation are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) filter: ReconciledFilter,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

/// What an order is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) window: Window,
    /// The oldest versions that are as good as the newest.
    pub(crate) oldest: Vec<PrestageId>,
}

/// A machine of the fleet.
#[derive(sqlx::FromRow)]
struct Known {
    id: String,
    serial_key: String,
    asset_tag: String,
    vendor: String,
    product: String,
    site: String,
}

impl Known {
    fn ordered(&self, line: Option<u64>, serial: &str) -> Ordered {
        Ordered {
            line,
            serial: serial.to_owned(),
            key: name_key(serial).unwrap_or_default(),
            asset_tag: self.asset_tag.clone(),
            model: Model {
                vendor: self.vendor.clone(),
                product: self.product.clone(),
                ..Model::default()
            },
            site: self.site.clone(),
            device: self.id.parse::<DeviceId>().ok(),
        }
    }
}

/// An accepted import against the receipts.
pub(crate) async fn of_import(
    state: &AppState,
    user: &User,
    import: i64,
    question: Question,
) -> Result<Reconciliation, Failure> {
    let import = drafts::get(state, user, import).await?;
    if import.state != ImportState::Accepted {
        let message = format!(
            "import {} is {}, not accepted",
            import.import,
            import.state.word()
        );
        return Err(Failure::conflict("not-accepted", message)
            .hint("an order is what was accepted: accept the import first"));
    }
    let mut connection = state.db().read().acquire().await.doing("read an order")?;
    let rows = drafts::done_rows(&mut connection, import.import).await?;
    drop(connection);
    let fleet = fleet(state).await?;
    let by_id: HashMap<&str, &Known> = fleet
        .iter()
        .map(|known| (known.id.as_str(), known))
        .collect();
    let rows = rows.iter().filter(|row| row.result().is_valid());
    let order = rows
        .filter_map(|row| by_id.get(row.device.as_str()).map(|known| (row, *known)))
        .filter(|(_, known)| user.covers(&known.site))
        .map(|(row, known)| ordered(row, known))
        .collect::<Result<Vec<_>, _>>()?;
    answer(state, user, Some(&import), order, &fleet, question).await
}

/// What the file said of the model counts: a machine that checked in since may have told its own.
fn ordered(row: &DoneRow, known: &Known) -> Result<Ordered, Failure> {
    let line = u64::try_from(row.line).ok();
    let mut ordered = known.ordered(line, &row.serial);
    if !row.became.is_empty() {
        let values = DoneRow::values(&row.became)?;
        ordered.model.vendor = values.vendor;
        ordered.model.product = values.product;
    }
    Ok(ordered)
}

/// A list of serial numbers against the receipts.
pub(crate) async fn of_serials(
    state: &AppState,
    user: &User,
    serials: &[String],
    question: Question,
) -> Result<Reconciliation, Failure> {
    let fleet = fleet(state).await?;
    let seen = fleet.iter().filter(|known| user.covers(&known.site));
    let by_key: HashMap<&str, &Known> = seen
        .map(|known| (known.serial_key.as_str(), known))
        .collect();
    let mut keys = HashSet::new();
    let mut order = Vec::new();
    for serial in serials {
        let serial = clean(serial, ASSET_TEXT_CHARS_MAX);
        let key = name_key(&serial).unwrap_or_default();
        if key.is_empty() || !keys.insert(key.clone()) {
            continue;
        }
        order.push(match by_key.get(key.as_str()) {
            Some(known) => known.ordered(None, &serial),
            None => Ordered {
                serial,
                key,
                ..Ordered::default()
            },
        });
    }
    answer(state, user, None, order, &fleet, question).await
}

async fn answer(
    state: &AppState,
    user: &User,
    import: Option<&ImportRow>,
    mut order: Vec<Ordered>,
    fleet: &[Known],
    question: Question,
) -> Result<Reconciliation, Failure> {
    let mut db = state.db().read().acquire().await.doing("read the models")?;
    let aliases = Aliases::read(&mut db).await?;
    drop(db);
    for machine in &mut order {
        machine.model = aliases.resolved(std::mem::take(&mut machine.model));
    }
    let known: HashSet<String> = fleet.iter().map(|known| known.serial_key.clone()).collect();
    let claims = claims(state, user, fleet).await?;
    let bundles = bundles(state, &question.oldest).await?;
    let ordered = u32::try_from(order.len()).unwrap_or(u32::MAX);
    let rows = blocking(move || Ok(judge(&order, &claims, &bundles, &known))).await?;
    let (counts, rows_total, rows) = cut(rows, question.window);
    Ok(Reconciliation {
        import: import.map(|import| import.import),
        file: import.map(|import| import.file.clone()),
        ordered,
        left_out: import.map_or(0, |import| import.counts.refused()),
        counts,
        rows_total,
        rows,
    })
}

fn cut(rows: Vec<ReconciledRow>, window: Window) -> (ReconciledCounts, u32, Vec<ReconciledRow>) {
    let mut counts = ReconciledCounts::default();
    for row in &rows {
        counts.add(row.state);
    }
    let wanted: Vec<ReconciledRow> = rows
        .into_iter()
        .filter(|row| window.filter.wants(row.state))
        .collect();
    let total = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let rows = wanted.into_iter().skip(window.offset).take(window.limit);
    (counts, total, rows.collect())
}

async fn fleet(state: &AppState) -> Result<Vec<Known>, Failure> {
    sqlx::query_as("SELECT id, serial_key, asset_tag, vendor, product, site FROM devices")
        .fetch_all(state.db().read())
        .await
        .doing("read the fleet")
}

/// The receipts that someone sees: of machines in reach, and those that they sent. A receipt without a machine is seen by
/// those who see all sites.
async fn claims(state: &AppState, user: &User, fleet: &[Known]) -> Result<Claims, Failure> {
    let sites: HashMap<&str, &str> = fleet
        .iter()
        .map(|known| (known.serial_key.as_str(), known.site.as_str()))
        .collect();
    let rows: Vec<(String, String, i64, String)> = sqlx::query_as(
        "SELECT serial_key, document, received_at_ms, sent_by FROM receipts ORDER BY received_at_ms, digest",
    )
    .fetch_all(state.db().read())
    .await
    .doing("read the receipts")?;
    let mut claims = Claims::new();
    for (key, document, received_at_ms, sent_by) in rows {
        let is_seen = match sites.get(key.as_str()).filter(|_| !key.is_empty()) {
            Some(site) => user.covers(site),
            None => user.sees_all(),
        };
        if is_seen || sent_by == user.name {
            let receipt: Receipt = stored("receipt", &document)?;
            claims.entry(key).or_default().push(Claim {
                receipt,
                received_at_ms,
            });
        }
    }
    Ok(claims)
}

async fn bundles(state: &AppState, oldest: &[PrestageId]) -> Result<Bundles, Failure> {
    let documents: Vec<String> = sqlx::query_scalar("SELECT document FROM prestage_versions")
        .fetch_all(state.db().read())
        .await
        .doing("read what was built")?;
    let mut built: BTreeMap<_, BTreeMap<u32, Built>> = BTreeMap::new();
    for document in documents {
        let version: PrestageVersion = stored("prestage", &document)?;
        built.entry(version.prestage).or_default().insert(
            version.version,
            Built {
                model: version.model,
                root: version.bundle,
            },
        );
    }
    let oldest = oldest
        .iter()
        .map(|id| (id.prestage.clone(), id.version))
        .collect();
    Ok(Bundles { built, oldest })
}
