//! What of the fleet someone sees, and with what they may do something. Whoever lists, reads or changes machines for a person
//! comes through here: what is out of their reach doesn't exist for them, and answers 404 like anything that doesn't.
//!
//! Whoever looks after one site sees its machines, wherever they are, and those that are there now, whomever they belong to:
//! visitors. A visitor can be looked at and reported stolen; all else is for those who look after the site it belongs to.

use axum::http::StatusCode;
use sqlx::AnyConnection;
use wire::admin_api::{CollectionRow, DeviceRow, RunDetail, RunRow};
use wire::device_plan::DevicePlan;
use wire::names::{DeviceId, RunId};

use crate::error::{Doing as _, Failure};
use crate::fleet::identity::name_key;
use crate::fleet::targeting::membership::collection_rows;
use crate::fleet::view::{Fleet, as_of};
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::runs::rows::{StoredDevice, StoredRun};
use crate::state::{AppState, now_ms};

/// A machine as far as reach goes, or what hangs on one.
pub trait Placed {
    /// The site that it belongs to, and the one where it last checked in; empty if there is none.
    fn sites(&self) -> (&str, &str);
}

impl Placed for DeviceRow {
    fn sites(&self) -> (&str, &str) {
        (&self.site, self.seen_site.as_deref().unwrap_or_default())
    }
}

impl Placed for StoredDevice {
    fn sites(&self) -> (&str, &str) {
        (&self.site, &self.seen_site)
    }
}

impl Placed for StoredRun {
    fn sites(&self) -> (&str, &str) {
        (&self.site, &self.seen_site)
    }
}

impl Placed for (&str, &str) {
    fn sites(&self) -> (&str, &str) {
        *self
    }
}

impl Reach {
    /// Whether a machine exists for them: one of their site, or one that is at their site now.
    #[must_use]
    pub fn sees(&self, machine: &impl Placed) -> bool {
        let (own, seen) = machine.sites();
        self.covers(own) || (!seen.is_empty() && self.covers(seen))
    }
}

impl User {
    /// Whether a machine exists for them.
    #[must_use]
    pub fn sees(&self, machine: &impl Placed) -> bool {
        self.reach.sees(machine)
    }

    /// Whether they look after this site: its pupils, its classes, and what is done with its machines.
    #[must_use]
    pub fn covers(&self, site: &str) -> bool {
        self.reach.covers(site)
    }

    /// Refuses what isn't done with a visitor.
    pub(crate) fn refuse_visitor(
        &self,
        serial: &str,
        machine: &impl Placed,
    ) -> Result<(), Failure> {
        if self.covers(machine.sites().0) {
            return Ok(());
        }
        let message = format!("{serial} belongs to another school and is a visitor at yours");
        Err(
            Failure::refused(StatusCode::FORBIDDEN, "visitor", message).hint(
                "you can look at it and report it stolen; its own school or an administrator does the rest",
            ),
        )
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
            .filter(|device| user.sees(device))
            .ok_or_else(|| Failure::not_found(format!("device {id}")))
    }

    /// The device that something is to be done with, inside a transaction: 404 if they don't see it, 403 if it is a visitor.
    pub(crate) async fn own_device_in(
        &self,
        user: &User,
        db: &mut AnyConnection,
        id: DeviceId,
    ) -> Result<StoredDevice, Failure> {
        let device = self.device_for_in(user, db, id).await?;
        user.refuse_visitor(&device.serial, &device)?;
        Ok(device)
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
            .filter(|device| user.sees(device))
            .ok_or_else(|| Failure::not_found(format!("device {id}")))
    }

    /// The run, or 404.
    pub(crate) async fn run_for(&self, user: &User, run: RunId) -> Result<StoredRun, Failure> {
        let found = self.stored_run(run).await?;
        found
            .filter(|found| user.sees(found))
            .ok_or_else(|| Failure::not_found(format!("run {run}")))
    }

    /// The run that something is to be done with: 404 if they don't see its machine, 403 if that is a visitor.
    pub(crate) async fn own_run(&self, user: &User, run: RunId) -> Result<StoredRun, Failure> {
        let found = self.run_for(user, run).await?;
        user.refuse_visitor(&found.serial, &found)?;
        Ok(found)
    }

    /// Every device they see, and every machine in quarantine if they see all sites.
    pub(crate) async fn device_rows_for(&self, user: &User) -> Result<Vec<DeviceRow>, Failure> {
        if user.reach == Reach::Nowhere {
            return Ok(Vec::new());
        }
        let (fleet, now) = (self.fleet().await?, now_ms());
        let seen = fleet.rows().iter().filter(|row| user.sees(row.as_ref()));
        Ok(seen.map(|row| told(&fleet, user, row, now)).collect())
    }

    /// One device; `None` if there is no such for them.
    pub(crate) async fn device_row_for(
        &self,
        user: &User,
        id: DeviceId,
    ) -> Result<Option<DeviceRow>, Failure> {
        let (fleet, now) = (self.fleet().await?, now_ms());
        let row = fleet.row(id).filter(|row| user.sees(row.as_ref()));
        Ok(row.map(|row| told(&fleet, user, row, now)))
    }

    /// One run; `None` if there is no such for them.
    pub(crate) async fn run_row_for(
        &self,
        user: &User,
        run: RunId,
    ) -> Result<Option<RunRow>, Failure> {
        match self.stored_run(run).await? {
            Some(stored) if user.sees(&stored) => self.run_row(run).await,
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
            Some(stored) if user.sees(&stored) => self.run_detail(run).await,
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
        let key = name_key(serial);
        let device = self
            .stored_devices_for(user)
            .await?
            .into_iter()
            .find(|device| device.serial == serial || key.as_ref() == Some(&device.serial_key));
        match device {
            Some(device) => self.device_plan(device).await,
            None => Ok(None),
        }
    }

    /// Every device they see, as stored.
    pub(crate) async fn stored_devices_for(
        &self,
        user: &User,
    ) -> Result<Vec<StoredDevice>, Failure> {
        let mut devices = self.stored_devices().await?;
        devices.retain(|device| user.sees(device));
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
        collection_rows(&mut db, &|sites| user.sees(&sites)).await
    }
}
