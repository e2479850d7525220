//! Classes as the hand-out sees them: who has which device, who is without, which devices are left.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;
use wire::assignments::{ClassHandOut, ClassRow, FreeDevice};

use crate::error::{Doing as _, Failure, stored_text};
use crate::people::auth::User;
use crate::pupils::hand_out::{StoredHandOutDevice, hand_out_devices_sql};
use crate::pupils::store::reading_order;
use crate::state::AppState;

/// Which class.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Named {
    /// The site's code.
    pub(crate) site: String,
    /// The class.
    pub(crate) class: String,
}

/// `GET /api/v1/assignments/classes`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<ClassRow>>, Failure> {
    state.class_rows_for(&user).await.map(Json)
}

/// `GET /api/v1/assignments/class?site=…&class=…`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(named): Query<Named>,
) -> Result<Json<ClassHandOut>, Failure> {
    state
        .class_hand_out_for(&user, &named.site, &named.class)
        .await
        .map(Json)
}

impl AppState {
    /// Every class that pupils or devices are in.
    pub(crate) async fn class_rows_for(&self, user: &User) -> Result<Vec<ClassRow>, Failure> {
        let mut classes: BTreeMap<(String, String), ClassRow> = BTreeMap::new();
        let mut class = |site: &str, site_name: &str, class: &str, count: fn(&mut ClassRow)| {
            let row = classes
                .entry((site.to_owned(), class.to_lowercase()))
                .or_insert_with(|| ClassRow {
                    site: site.to_owned(),
                    site_name: site_name.to_owned(),
                    class: class.to_owned(),
                    pupils: 0,
                    without: 0,
                    free: 0,
                });
            count(row);
        };
        for pupil in self.pupil_rows_for(user).await? {
            if pupil.erased_at_ms.is_some() || pupil.left_at_ms.is_some() {
                continue;
            }
            class(&pupil.site, &pupil.site_name, &pupil.class, |row| {
                row.pupils += 1;
            });
            if pupil.devices.is_empty() {
                class(&pupil.site, &pupil.site_name, &pupil.class, |row| {
                    row.without += 1;
                });
            }
        }
        for device in self.free_devices_for(user).await? {
            class(&device.site, &device.site_name, &device.class, |row| {
                row.free += 1;
            });
        }
        let mut rows: Vec<ClassRow> = classes.into_values().collect();
        rows.sort_by_cached_key(|row| (reading_order(&row.site_name), reading_order(&row.class)));
        Ok(rows)
    }

    /// One class; a class nobody is in is empty, not unknown.
    pub(crate) async fn class_hand_out_for(
        &self,
        user: &User,
        site: &str,
        class: &str,
    ) -> Result<ClassHandOut, Failure> {
        let site_name: Option<String> =
            sqlx::query_scalar("SELECT name FROM sites WHERE code = $1")
                .bind(site)
                .fetch_optional(self.db().read())
                .await
                .doing("look up a site")?;
        let site_name = site_name
            .filter(|_| user.reach.covers(site))
            .ok_or_else(|| Failure::not_found(format!("site {site}")))?;
        let is_meant = |a_site: &str, a_class: &str| {
            a_site == site && a_class.to_lowercase() == class.to_lowercase()
        };
        let mut pupils = self.pupil_rows_for(user).await?;
        pupils.retain(|pupil| {
            is_meant(&pupil.site, &pupil.class)
                && pupil.erased_at_ms.is_none()
                && (pupil.left_at_ms.is_none() || !pupil.devices.is_empty())
        });
        let free = self.free_devices_for(user).await?;
        let free = free
            .into_iter()
            .filter(|device| is_meant(&device.site, &device.class))
            .map(|device| {
                Ok(FreeDevice {
                    device: stored_text("device id", &device.id)?,
                    ready: device.is_ready(),
                    serial: device.serial,
                    asset_tag: device.asset_tag,
                })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(ClassHandOut {
            site: site.to_owned(),
            site_name,
            class: class.to_owned(),
            pupils,
            free,
        })
    }

    /// Devices that nobody has, by serial number.
    async fn free_devices_for(&self, user: &User) -> Result<Vec<StoredHandOutDevice>, Failure> {
        let mut free: Vec<StoredHandOutDevice> = sqlx::query_as(hand_out_devices_sql!(
            "WHERE devices.class <> '' AND NOT EXISTS (SELECT 1 FROM assignments \
             WHERE assignments.device = devices.id AND assignments.returned_at_ms = 0) \
             ORDER BY devices.serial_key"
        ))
        .fetch_all(self.db().read())
        .await
        .doing("read the devices that nobody has")?;
        free.retain(|device| user.reach.covers(&device.site));
        Ok(free)
    }
}
