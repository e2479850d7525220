//! Pupils and assignments as they are stored, and what callers see of them.

use std::collections::BTreeMap;

use wire::assignments::AssignmentRow;
use wire::names::{AssignmentId, DeviceId, PupilId};
use wire::pupils::{HeldDevice, PupilRow};

use crate::db::Write;
use crate::error::{Doing as _, Failure, stored_text};
use crate::people::auth::User;
use crate::state::AppState;

/// A pupil as stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct StoredPupil {
    pub(super) id: String,
    pub(super) external_id: String,
    pub(super) name: String,
    pub(super) site: String,
    pub(super) site_name: String,
    pub(super) class: String,
    pub(super) several: i64,
    pub(super) created_at_ms: i64,
    pub(super) listed_at_ms: i64,
    pub(super) left_at_ms: i64,
    pub(super) erased_at_ms: i64,
}

/// An assignment as stored, with what a row says of its device and its pupil.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct StoredAssignment {
    pub(super) id: String,
    pub(super) device: String,
    pub(super) serial: String,
    pub(super) asset_tag: String,
    pub(super) site: String,
    pub(super) pupil: String,
    pub(super) pupil_site: String,
    pub(super) external_id: String,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) handed_out_at_ms: i64,
    pub(super) handed_out_by: String,
    pub(super) note: String,
    pub(super) returned_at_ms: i64,
    pub(super) returned_by: String,
    pub(super) condition_note: String,
    pub(super) ended_by: String,
    pub(super) undone: i64,
}

/// Pupils with the name of their site, and a clause.
macro_rules! pupils_sql {
    ($clause:literal) => {
        concat!(
            "SELECT pupils.id, pupils.external_id, pupils.name, pupils.site, \
             COALESCE(sites.name, pupils.site) AS site_name, pupils.class, pupils.several, pupils.created_at_ms, \
             pupils.listed_at_ms, pupils.left_at_ms, pupils.erased_at_ms \
             FROM pupils LEFT JOIN sites ON sites.code = pupils.site ",
            $clause
        )
    };
}

/// Assignments with their device and their pupil, and a clause.
macro_rules! assignments_sql {
    ($clause:literal) => {
        concat!(
            "SELECT assignments.id, assignments.device, devices.serial, devices.asset_tag, devices.site, \
             assignments.pupil, pupils.site AS pupil_site, pupils.external_id, pupils.name, pupils.class, \
             assignments.handed_out_at_ms, assignments.handed_out_by, assignments.note, assignments.returned_at_ms, \
             assignments.returned_by, assignments.condition_note, assignments.ended_by, assignments.undone \
             FROM assignments JOIN devices ON devices.id = assignments.device \
             JOIN pupils ON pupils.id = assignments.pupil ",
            $clause
        )
    };
}
pub(super) use {assignments_sql, pupils_sql};

/// How a pupil's number is compared: scanners and people differ in case and blanks.
pub(super) fn pupil_key(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

const fn moment(at_ms: i64) -> Option<i64> {
    if at_ms > 0 { Some(at_ms) } else { None }
}

impl StoredPupil {
    pub(super) fn id(&self) -> Result<PupilId, Failure> {
        stored_text("pupil id", &self.id)
    }

    pub(super) fn row(self, devices: Vec<HeldDevice>) -> Result<PupilRow, Failure> {
        Ok(PupilRow {
            pupil: self.id()?,
            external_id: self.external_id,
            name: self.name,
            site: self.site,
            site_name: self.site_name,
            class: self.class,
            several: self.several != 0,
            devices,
            left_at_ms: moment(self.left_at_ms),
            erased_at_ms: moment(self.erased_at_ms),
        })
    }
}

impl StoredAssignment {
    pub(super) fn id(&self) -> Result<AssignmentId, Failure> {
        stored_text("assignment id", &self.id)
    }

    /// What this caller sees of it: nothing personal of pupils of other sites; `None` if neither is theirs.
    pub(super) fn row_for(self, user: &User) -> Result<Option<AssignmentRow>, Failure> {
        let knows_pupil = user.reach.covers(&self.pupil_site);
        if !knows_pupil && !user.reach.covers(&self.site) {
            return Ok(None);
        }
        let personal = |text: String| if knows_pupil { text } else { String::new() };
        Ok(Some(AssignmentRow {
            assignment: stored_text("assignment id", &self.id)?,
            device: stored_text("device id", &self.device)?,
            serial: self.serial,
            asset_tag: self.asset_tag,
            site: self.site,
            pupil: stored_text("pupil id", &self.pupil)?,
            external_id: personal(self.external_id),
            name: personal(self.name),
            class: personal(self.class),
            handed_out_at_ms: self.handed_out_at_ms,
            handed_out_by: self.handed_out_by,
            note: personal(self.note),
            returned_at_ms: moment(self.returned_at_ms),
            returned_by: self.returned_by,
            condition: self.condition_note,
        }))
    }

    pub(super) fn held(&self) -> Result<HeldDevice, Failure> {
        Ok(HeldDevice {
            assignment: self.id()?,
            device: stored_text("device id", &self.device)?,
            serial: self.serial.clone(),
            asset_tag: self.asset_tag.clone(),
            handed_out_at_ms: self.handed_out_at_ms,
        })
    }
}

impl AppState {
    /// The pupils that this caller sees, by site, class and name.
    pub(super) async fn stored_pupils_for(&self, user: &User) -> Result<Vec<StoredPupil>, Failure> {
        let mut pupils: Vec<StoredPupil> = sqlx::query_as(pupils_sql!("ORDER BY pupils.id"))
            .fetch_all(self.db().read())
            .await
            .doing("read the pupils")?;
        pupils.retain(|pupil| user.reach.covers(&pupil.site));
        pupils.sort_by_cached_key(|pupil| {
            (
                pupil.site.clone(),
                reading_order(&pupil.class),
                reading_order(&pupil.name),
                pupil.id.clone(),
            )
        });
        Ok(pupils)
    }

    /// The devices that every pupil has now.
    pub(super) async fn held_devices(&self) -> Result<BTreeMap<String, Vec<HeldDevice>>, Failure> {
        let open: Vec<StoredAssignment> = sqlx::query_as(assignments_sql!(
            "WHERE assignments.returned_at_ms = 0 ORDER BY assignments.handed_out_at_ms, assignments.id"
        ))
        .fetch_all(self.db().read())
        .await
        .doing("read who has which device")?;
        let mut held: BTreeMap<String, Vec<HeldDevice>> = BTreeMap::new();
        for assignment in open {
            held.entry(assignment.pupil.clone())
                .or_default()
                .push(assignment.held()?);
        }
        Ok(held)
    }

    /// The pupils that this caller sees, with what they have.
    pub(crate) async fn pupil_rows_for(&self, user: &User) -> Result<Vec<PupilRow>, Failure> {
        let mut held = self.held_devices().await?;
        let pupils = self.stored_pupils_for(user).await?;
        pupils
            .into_iter()
            .map(|pupil| {
                let devices = held.remove(&pupil.id).unwrap_or_default();
                pupil.row(devices)
            })
            .collect()
    }

    /// The pupil, or 404.
    pub(super) async fn pupil_for(&self, user: &User, id: PupilId) -> Result<StoredPupil, Failure> {
        let pupil: Option<StoredPupil> = sqlx::query_as(pupils_sql!("WHERE pupils.id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.db().read())
            .await
            .doing("read a pupil")?;
        seen_pupil(user, id, pupil)
    }

    /// What the pupil has now.
    pub(super) async fn held_by(&self, pupil: &StoredPupil) -> Result<Vec<HeldDevice>, Failure> {
        let open: Vec<StoredAssignment> = sqlx::query_as(assignments_sql!(
            "WHERE assignments.pupil = $1 AND assignments.returned_at_ms = 0 ORDER BY assignments.handed_out_at_ms"
        ))
        .bind(&pupil.id)
        .fetch_all(self.db().read())
        .await
        .doing("read what a pupil has")?;
        open.iter().map(StoredAssignment::held).collect()
    }

    /// Hand-outs and returns of a device or of a pupil, newest first.
    pub(crate) async fn history_for(
        &self,
        user: &User,
        of: HistoryOf,
    ) -> Result<Vec<AssignmentRow>, Failure> {
        let (sql, id) = match of {
            HistoryOf::Device(device) => (
                assignments_sql!(
                    "WHERE assignments.device = $1 AND assignments.undone = 0 \
                     ORDER BY assignments.handed_out_at_ms DESC, assignments.id"
                ),
                device.to_string(),
            ),
            HistoryOf::Pupil(pupil) => (
                assignments_sql!(
                    "WHERE assignments.pupil = $1 AND assignments.undone = 0 \
                     ORDER BY assignments.handed_out_at_ms DESC, assignments.id"
                ),
                pupil.to_string(),
            ),
        };
        let rows: Vec<StoredAssignment> = sqlx::query_as(sql)
            .bind(id)
            .fetch_all(self.db().read())
            .await
            .doing("read a history of hand-outs")?;
        rows.into_iter()
            .filter_map(|row| row.row_for(user).transpose())
            .collect()
    }
}

/// Whose history.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HistoryOf {
    /// Of a device.
    Device(DeviceId),
    /// Of a pupil.
    Pupil(PupilId),
}

/// The pupil inside a transaction, or 404.
pub(super) async fn pupil_for_in(
    db: &mut Write,
    user: &User,
    id: PupilId,
) -> Result<StoredPupil, Failure> {
    let pupil: Option<StoredPupil> = sqlx::query_as(pupils_sql!("WHERE pupils.id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut **db)
        .await
        .doing("read a pupil")?;
    seen_pupil(user, id, pupil)
}

fn seen_pupil(
    user: &User,
    id: PupilId,
    pupil: Option<StoredPupil>,
) -> Result<StoredPupil, Failure> {
    pupil
        .filter(|pupil| user.reach.covers(&pupil.site))
        .ok_or_else(|| Failure::not_found(format!("pupil {id}")))
}

/// The order of a Norwegian class list: å after ø after æ after z, numbers by their value.
pub(super) fn reading_order(text: &str) -> Vec<(u8, u64, char)> {
    let mut order = Vec::with_capacity(text.len());
    let mut digits: Option<u64> = None;
    for c in text.to_lowercase().chars() {
        if let Some(digit) = c.to_digit(10) {
            let value = digits
                .unwrap_or(0)
                .saturating_mul(10)
                .saturating_add(u64::from(digit));
            digits = Some(value);
            continue;
        }
        if let Some(value) = digits.take() {
            order.push((0, value, ' '));
        }
        let c = match c {
            'ä' => 'æ',
            'ö' => 'ø',
            'é' | 'è' | 'ê' => 'e',
            'ü' => 'u',
            c => c,
        };
        let rank = match c {
            'æ' => 2,
            'ø' => 3,
            'å' => 4,
            _ => 1,
        };
        order.push((rank, 0, c));
    }
    if let Some(value) = digits {
        order.push((0, value, ' '));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::{pupil_key, reading_order};

    #[test]
    fn class_lists_are_read_in_norwegian() {
        let mut names = vec![
            "Åse", "Øyvind", "Ærlend", "zoe", "10A", "9B", "8B", "Anne", "Ärla",
        ];
        names.sort_by_cached_key(|name| reading_order(name));
        assert_eq!(
            names,
            [
                "8B", "9B", "10A", "Anne", "zoe", "Ärla", "Ærlend", "Øyvind", "Åse"
            ]
        );
    }

    #[test]
    fn numbers_are_the_same_in_any_case() {
        assert_eq!(pupil_key("  KARnor01 "), "karnor01");
    }
}
