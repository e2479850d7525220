//! Models: what the fleet consists of, and what is missing for each.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::{Extension, State};
use wire::classes::ModelRow;
use wire::package::{Model, PackageKind};
use wire::reasons::{MissingReason, texts};

use crate::error::{Doing as _, Failure};
use crate::fleet::targeting::preview::{fits, prestages};
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::runs::orders::current_packages;
use crate::state::AppState;

/// `GET /api/v1/models`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<ModelRow>>, Failure> {
    state.model_rows(&user.reach).await.map(Json)
}

impl AppState {
    /// Every model that a device in reach is of, the most frequent first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn model_rows(&self, reach: &Reach) -> Result<Vec<ModelRow>, Failure> {
        let devices = self.stored_devices().await?;
        let reading = self.db().read().acquire().await;
        let mut db = reading.doing("read the models")?;
        let packages = current_packages(&mut db).await?;
        let prestages = prestages(&mut db).await?;
        let took: Vec<(String, i64)> = sqlx::query_as(
            "SELECT device, ended_at_ms - started_at_ms FROM runs WHERE state = 'completed'",
        )
        .fetch_all(&mut *db)
        .await
        .doing("read how long runs took")?;
        drop(db);
        let mut by_device: HashMap<String, Vec<i64>> = HashMap::new();
        for (device, ms) in took {
            by_device.entry(device).or_default().push(ms);
        }
        let mut models: BTreeMap<Model, (u32, Vec<i64>)> = BTreeMap::new();
        for device in devices.iter().filter(|device| reach.covers(&device.site)) {
            let (count, took) = models.entry(device.model()).or_default();
            *count += 1;
            took.extend(by_device.get(&device.id).into_iter().flatten());
        }
        let mut rows: Vec<ModelRow> = models
            .into_iter()
            .map(|(model, (devices, took))| {
                let drivers = packages.iter().filter(|package| {
                    package.kind == PackageKind::Driver
                        && package.models.iter().any(|rule| rule.matches(&model))
                });
                let own = prestages
                    .iter()
                    .filter(|(_, wanted, _)| fits(wanted, &model));
                let own: Vec<_> = own.collect();
                let mut row = ModelRow {
                    devices,
                    drivers: drivers.map(|package| package.name.to_string()).collect(),
                    prestages: own.iter().map(|(name, _, _)| name.clone()).collect(),
                    median_seconds: median(took),
                    warnings: Vec::new(),
                    said: Vec::new(),
                    vendor: model.vendor,
                    product: model.product,
                    sku: model.sku,
                    baseboard: model.baseboard,
                };
                if row.drivers.is_empty() {
                    row.said.push(MissingReason::NoDrivers);
                }
                if own.is_empty() {
                    row.said.push(MissingReason::NoPrestage);
                } else if !own.iter().any(|(_, _, is_built)| *is_built) {
                    let prestage = own[0].0.clone();
                    row.said.push(MissingReason::NeverBuilt { prestage });
                }
                row.warnings = texts(&row.said);
                row
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.devices));
        Ok(rows)
    }
}

fn median(mut took: Vec<i64>) -> Option<u64> {
    took.sort_unstable();
    let middle = took.get(took.len() / 2)?;
    u64::try_from(middle / 1000).ok()
}
