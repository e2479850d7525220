//! What of the fleet someone sees. Whoever lists, reads or changes machines for a person comes through here: what is out of
//! their reach doesn't exist for them, and answers 404 like anything that doesn't.

use wire::admin_api::{CollectionRow, DeviceRow, RunDetail, RunRow};
use wire::device_plan::DevicePlan;
use wire::names::{DeviceId, RunId};

use crate::error::{Doing as _, Failure};
use crate::fleet::targeting::membership::collection_rows;
use crate::fleet::view::{Fleet, as_of};
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::runs::rows::{StoredDevice, StoredRun};
use crate::state::{AppState, now_ms};
use sqlx::AnyConnection;

impl User {
    /// Whether a machine of this site exists for them.
    #[must_use]
    pub fn sees(&self, site: &str) -> bool {
        self.reach.covers(site)
    }

    /// Whether the machines of all sites exist for them.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.reach == Reach::Everywhere
    }
}

/// A device's row as this user is told it: now, and with the pupil if they may know.
pub(crate) fn told(fleet: &Fleet, user: &User, row: &DeviceRow, now_ms: i64) -> DeviceRow {
    DeviceRow {
        pupil: fleet.pupil(user, row.device).map(str::to_owned),
        ..as_of(row, now_ms)
    }
}

impl AppState {
    /// The device, or 404.
    pub(crate) async fn device_for(
        &self,
        user: &User,
        id: DeviceId,
    ) -> Result<StoredDevice, Failure> {
        let device = self.stored_device(id).await?;
        device
            .filter(|device| user.sees(&device.site))
            .ok_or_else(|| Failure::not_found(format!("device {id}")))
    }

    /// The device inside a transaction, or 404.
    pub(crate) async fn device_for_in(
        &self,
        user: &User,
        db: &mut AnyConnection,
        id: DeviceId,
    ) -> Result<StoredDevice, Failure> {
        let device = self.stored_device_in(db, id).await?;
        device
            .filter(|device| user.sees(&device.site))
            .ok_or_else(|| Failure::not_found(format!("device {id}")))
    }

    /// The run, or 404.
    pub(crate) async fn run_for(&self, user: &User, run: RunId) -> Result<StoredRun, Failure> {
        let found = self.stored_run(run).await?;
        found
            .filter(|found| user.sees(&found.site))
            .ok_or_else(|| Failure::not_found(format!("run {run}")))
    }

    /// Every device they see, and every machine in quarantine if they see all sites.
    pub(crate) async fn device_rows_for(&self, user: &User) -> Result<Vec<DeviceRow>, Failure> {
        if user.reach == Reach::Nowhere {
            return Ok(Vec::new());
        }
        let (fleet, now) = (self.fleet().await?, now_ms());
        let seen = fleet.rows().iter().filter(|row| user.sees(&row.site));
        Ok(seen.map(|row| told(&fleet, user, row, now)).collect())
    }

    /// One device; `None` if there is no such for them.
    pub(crate) async fn device_row_for(
        &self,
        user: &User,
        id: DeviceId,
    ) -> Result<Option<DeviceRow>, Failure> {
        let (fleet, now) = (self.fleet().await?, now_ms());
        let row = fleet.row(id).filter(|row| user.sees(&row.site));
        Ok(row.map(|row| told(&fleet, user, row, now)))
    }

    /// One run; `None` if there is no such for them.
    pub(crate) async fn run_row_for(
        &self,
        user: &User,
        run: RunId,
    ) -> Result<Option<RunRow>, Failure> {
        match self.stored_run(run).await? {
            Some(stored) if user.sees(&stored.site) => self.run_row(run).await,
            _ => Ok(None),
        }
    }

    /// One run with its steps and its log; `None` if there is no such for them.
    pub(crate) async fn run_detail_for(
        &self,
        user: &User,
        run: RunId,
    ) -> Result<Option<RunDetail>, Failure> {
        match self.stored_run(run).await? {
            Some(stored) if user.sees(&stored.site) => self.run_detail(run).await,
            _ => Ok(None),
        }
    }

    /// How the run that is due would go on the device with this serial number; `None` if there is no such for them.
    /// # Errors
    /// If the database or the content library fails.
    pub async fn device_plan_for(
        &self,
        user: &User,
        serial: &str,
    ) -> Result<Option<DevicePlan>, Failure> {
        let plan = self.device_plan(serial).await?;
        Ok(plan.filter(|plan| user.sees(&plan.site)))
    }

    /// Every device they see, as stored.
    pub(crate) async fn stored_devices_for(
        &self,
        user: &User,
    ) -> Result<Vec<StoredDevice>, Failure> {
        let mut devices = self.stored_devices().await?;
        devices.retain(|device| user.sees(&device.site));
        Ok(devices)
    }

    /// Every collection, with the number of members that they see.
    pub(crate) async fn collections_for(&self, user: &User) -> Result<Vec<CollectionRow>, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the collections")?;
        collection_rows(&mut db, &|site| user.sees(site)).await
    }
}
